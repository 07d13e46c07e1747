"""Measurement of accuracy on labelled sets, and of speed."""
