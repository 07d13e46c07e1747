"""The ROS 2 layer: thin, and the only place that imports rclpy. Nothing imports this package."""
