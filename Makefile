.PHONY: all format check test gpu

all: format check test

format:
	ruff check --fix .
	ruff format .

check:
	ruff check .
	ruff format --check .
	pyright

test:
	pytest

# Measures and trains all that wants a GPU, for seven minutes; run it again until it says that all is done.
gpu:
	python -m unclutter.training gpu runs/gpu
