"""What runs without a camera: pictures that this project draws itself. No ROS here."""
