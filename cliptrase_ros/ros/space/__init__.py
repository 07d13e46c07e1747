"""Outputs of the node that need depth: clouds, depth of targets, objects."""
