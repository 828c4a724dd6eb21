"""Balancers: how much each of several tasks weighs in one loss."""
