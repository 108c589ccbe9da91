"""Measures how well objects are removed."""
