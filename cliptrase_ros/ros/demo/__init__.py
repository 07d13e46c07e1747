"""The demo: a simulated camera, the segmentation node, scores and pictures."""
