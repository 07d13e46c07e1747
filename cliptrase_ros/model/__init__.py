"""The CLIP model: its image and text towers, and the preprocessing of images."""
