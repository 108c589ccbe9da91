.PHONY: all format check test workflows pictures gpu

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

# Both need a ComfyUI; workflows needs a Chromium too.
workflows:
	python -m unclutter.tools.make_workflows

pictures:
	python -m unclutter.tools.make_pictures
	python -m unclutter.tools.make_help_pictures

# Measures and trains all that wants a GPU, for seven minutes; run it again until it says that all is done.
gpu:
	python -m unclutter.training gpu runs/gpu
