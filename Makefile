.DEFAULT_GOAL := help
.PHONY: help all format check test workflows pictures scenes gpu

help: ## List these targets.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

all: format check test ## Format, check and test.

format: ## Sort imports, fix what can be fixed, and format.
	ruff check --fix .
	ruff format .

check: ## Check style, formatting and types.
	ruff check .
	ruff format --check .
	pyright

test: ## Run the tests; those that need a ComfyUI skip where there is none.
	pytest

workflows: ## Make the templates anew; needs a ComfyUI and a Chromium.
	python -m unclutter.tools.make_workflows

pictures: ## Make the thumbnails and the help pages' pictures anew; needs a ComfyUI.
	python -m unclutter.tools.make_pictures
	python -m unclutter.tools.make_help_pictures

scenes: ## Render the scenes in rendered/ anew; needs the extra `render`, goes on where it was stopped.
	python -m unclutter.tools.make_rendered runs/scenes

gpu: ## Measure and train all that wants a GPU, for seven minutes; again until it says that all is done.
	python -m unclutter.training gpu runs/gpu
