"""Pairs to train on: manifests, the loader, and ways to make them."""
