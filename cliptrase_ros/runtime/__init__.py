"""Who computes: compiled functions and CUDA graphs, memory, waiting for a device, late imports."""
