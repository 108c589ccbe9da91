"""Success rates: what a vision-language model (`judge`) and people (`page`) say of filled pictures."""
