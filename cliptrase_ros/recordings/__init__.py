"""Recordings of ROS 1 and ROS 2, read as far as they can be read, without ROS."""

OVERLAYS = ('compressed', 'raw', 'none')
