"""camera_publisher: pictures, videos and webcams published as a camera."""
