"""Picture and video files, encodings of images, drawing."""
