"""Files on disk, one module per kind, each with `load(path)` and `save(path, ...)`, safetensors only on the way out."""
