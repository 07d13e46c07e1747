"""Recordings of ROS 1 and ROS 2, read as far as they can be read, without ROS."""

# How overlays are written.
OVERLAYS = ('compressed', 'raw', 'none')
