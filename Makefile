.PHONY: all format check test workflows pictures

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
