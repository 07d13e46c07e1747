"""Labelling of archives (pictures or recordings) by this process or by several workers."""
