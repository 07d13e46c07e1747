"""The table of methods, and the recipes that need more than an attention rule."""
