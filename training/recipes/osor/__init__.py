"""OSOR: an eraser that needs one call of the network."""
