"""What lies on disk: one module per kind of file, each with `load(path)` and `save(path, ...)`, safetensors only on the way out."""
