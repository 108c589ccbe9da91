"""Test cases from folders, manifests and public sets."""
