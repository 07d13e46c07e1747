"""The CLIP model: its towers written out from their weights, and pictures made ready for them."""
