"""The maths. Tensors in, tensors out: no ComfyUI, no diffusers."""
