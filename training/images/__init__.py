"""Picture files, contact sheets and holes."""
