"""`unclutter train mini`: the mini model from nothing."""
