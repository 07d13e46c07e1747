"""The demo: a simulated camera, the node beside it, scores and pictures."""
