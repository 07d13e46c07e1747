"""How the last block attends: the table of methods, and the recipes that need more than a rule."""
