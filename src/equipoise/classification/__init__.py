"""Losses for classification and for regression with outliers: one loss with its close variants per file."""
