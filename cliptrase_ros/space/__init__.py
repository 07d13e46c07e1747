"""Depth, cameras, labelled points, things in space. NumPy only, without ROS."""
