.PHONY: all format check test

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
