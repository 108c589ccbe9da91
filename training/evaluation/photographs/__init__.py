"""Any method on any pictures: filled, measured, compared, and shown (`unclutter evaluate photos`)."""
