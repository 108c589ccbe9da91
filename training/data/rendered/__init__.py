"""Physically rendered scenes with and without one of their objects."""
