"""camera_publisher: a camera without a camera."""
