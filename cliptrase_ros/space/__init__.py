"""Depth images, cameras, labelled points and things in space. This code does not use ROS."""
