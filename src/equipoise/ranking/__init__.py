"""Losses of order and distance: pairs, triplets, groups, and all pairs or triplets of a batch."""
