"""Checkpoints on disk as networks with a VAE and text encoders."""
