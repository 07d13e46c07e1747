"""Accuracy on labelled sets, and speed."""
