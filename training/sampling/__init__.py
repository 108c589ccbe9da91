"""Removing with a diffusers network: methods, one step, layers, and what a training adds to them."""
