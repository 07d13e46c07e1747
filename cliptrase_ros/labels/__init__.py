"""From scores to label maps: clusters of patches, votes, enlarging, edges."""
