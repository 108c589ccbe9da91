"""Metrics of filled pictures: `facts` names them without PyTorch, `opening` opens them, each in a file of its own."""
