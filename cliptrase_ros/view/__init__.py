"""The live page in the browser: one page, which a local feeder or a ROS node fills."""
