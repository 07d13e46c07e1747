"""What the node does with depth: clouds, depth of targets, things."""
