"""Steadier results over frames: smoothed scores, and which words are in the picture."""
