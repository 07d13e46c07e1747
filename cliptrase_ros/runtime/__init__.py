"""Compiled functions, CUDA graphs, memory, waiting for a device, and deferred imports."""
