"""Reading of ROS 1 and ROS 2 recordings without ROS; damaged ones are read as far as possible."""

# The ways to write overlays.
OVERLAYS = ('compressed', 'raw', 'none')
