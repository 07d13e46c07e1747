"""From frame to frame: scores smoothed, and which words are in the picture."""
