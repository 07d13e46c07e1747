"""The live page on a running segmentation node."""
