"""Archives of pictures and recordings, labelled on one machine or by several workers."""
