"""How well objects are removed, measured where the truth is known."""
