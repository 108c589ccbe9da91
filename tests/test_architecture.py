"""The import rules of the pack: who may import whom, what ComfyUI pays at start-up, and that the wheel holds it all."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text()

# part of the pack -> the parts it may import, itself included
MAY_IMPORT = {
    "": {"nodes"},
    "kernels": {"kernels"},
    "adapters": {"adapters", "kernels"},
    "nodes": {"nodes", "adapters", "kernels"},
    "training": {"training", "adapters", "kernels"},
}
# room of training/ -> the rooms it may import beside itself; what lies beside the rooms may import all of them
DOORS = {
    "images": set(),
    "data": {"images"},
    "base_models": set(),
    "sampling": {"base_models"},
    "recipes": {"sampling", "base_models", "data", "images"},
    "evaluation": {"sampling", "base_models", "data", "images"},
    "bench": {"recipes", "evaluation", "sampling", "base_models", "images"},
    "mini": {"recipes", "evaluation", "sampling", "base_models", "images"},
}
# A client of ComfyUI's server, checks of paths and the settings of `remove`, which import no room.
OPEN_TO_ALL = {"comfyui_server", "paths", "settings"}
COMFYUI_INTERNALS = {"comfy", "folder_paths", "latent_preview", "node_helpers", "server"}
COMFYUI = COMFYUI_INTERNALS | {"comfy_api", "comfy_extras", "comfy_execution", "execution", "nodes"}
RUNTIME = {"torch", "numpy", "scipy", "einops", "kornia", "safetensors", "PIL", "tqdm"}

FILES = [ROOT / "__init__.py", *(path for part in MAY_IMPORT if part for path in sorted((ROOT / part).rglob("*.py")))]


def part_of(path: Path) -> str:
    folder = path.relative_to(ROOT).parts[0]
    return "" if folder == "__init__.py" else folder


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(level, dotted name) of every import in a file, wherever it stands; level 0 is an absolute import."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from . import a, b` and `from .a import b` both name the module `a`; so does `from .. import a`.
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(node.level, name) for name in names]
    return found


def forbidden_imports(path: Path) -> list[str]:
    part = part_of(path)
    depth = len(path.relative_to(ROOT).parts)
    wrong = []
    for level, name in imports_of(path):
        top = name.split(".")[0]
        if level > depth:
            wrong.append(f"{'.' * level}{name} leaves the pack")
        elif level:
            target = top if level == depth else part
            if target not in MAY_IMPORT[part]:
                wrong.append(f"{'.' * level}{name} imports {target or 'the root'}")
        elif top == "unclutter":
            wrong.append(f"{name} by its absolute name, which does not exist in ComfyUI")
        elif top not in sys.stdlib_module_names | allowed_packages(path):
            wrong.append(name)
    return wrong


def allowed_packages(path: Path) -> set[str]:
    part = part_of(path)
    if part == "kernels":
        return {"torch", "numpy", "scipy", "einops", "kornia"}
    if part == "training":
        # The second host brings its own packages through the extras; ComfyUI is never one of them.
        return {name.split(".")[0] for level, name in imports_of(path) if level == 0} - COMFYUI
    if path.parent == ROOT / "nodes" / "host":
        return RUNTIME | {"comfy_api"} | COMFYUI_INTERNALS
    if part in ("", "nodes"):
        return RUNTIME | {"comfy_api"}
    return RUNTIME


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_architecture(path: Path) -> None:
    assert not forbidden_imports(path)


def test_the_rules_can_be_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker above sees the imports it is there to forbid."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    broken = {
        "kernels/a.py": "from ..nodes import host",
        "kernels/b.py": "import safetensors.torch",
        "adapters/a.py": "def load():\n    import diffusers",
        "nodes/a.py": "import comfy.samplers",
        "nodes/b.py": "from .. import training",
        "training/a.py": "from comfy_api.latest import io",
        "training/b.py": "from unclutter.kernels import regions",
        "training/c.py": "from ...other import thing",
    }
    for name, source in broken.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    assert [name for name in broken if not forbidden_imports(tmp_path / name)] == []


def modules() -> dict[str, Path]:
    """Every module of the pack by its dotted name below the root, packages by the name of their folder."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
        for path in FILES
    }


def imported_modules(name: str, known: dict[str, Path]) -> set[str]:
    """The modules of the pack that one of them imports.

    An import inside a function counts like one at the top: it is a dependency all the same, and hides a circle rather than
    breaking it. A package stands for its __init__.py, which importing anything in it runs first, so it is left out.
    """
    path = known[name]
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) + 1 - node.level], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                candidates = (".".join([*base, alias.name]), ".".join(base))
                found.update([next((each for each in candidates if each in known), "")])
    return found - {"", name}


def circle_in(arrows: dict[str, set[str]]) -> list[str]:
    """Some modules each of which imports the next, and the last of which imports the first; empty where there are none."""
    finished: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return trail[trail.index(name) :]
        if name in finished:
            return []
        for other in sorted(arrows[name]):
            if circle := visit(other, [*trail, name]):
                return circle
        finished.add(name)
        return []

    return next((circle for name in arrows if (circle := visit(name, []))), [])


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules()
    assert circle_in({name: imported_modules(name, known) for name in known}) == []
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


@pytest.mark.parametrize("room", DOORS)
def test_rooms_of_training_use_their_doors_alone(room: str) -> None:
    known = modules()
    inside = {name for name in known if name.startswith(f"training.{room}.")}
    imported = {
        other.split(".")[1] for name in inside for other in imported_modules(name, known) if "training." in other
    }
    assert imported <= {room} | DOORS[room] | OPEN_TO_ALL


def test_every_room_of_training_has_its_doors_listed() -> None:
    assert {path.parent.name for path in (ROOT / "training").glob("*/__init__.py")} == set(DOORS)


def test_pyproject_names_every_package_and_every_runtime_dependency() -> None:
    folders = {".".join(("unclutter", *path.parent.relative_to(ROOT).parts)) for path in FILES}
    assert {f"unclutter.{part}" for part in MAY_IMPORT if part} <= folders
    assert listed("packages") == folders
    assert {entry.split(">=")[0] for entry in listed("dependencies")} == RUNTIME - {"PIL"} | {"Pillow"}


def listed(key: str) -> set[str]:
    """The strings of `key = [...]` in pyproject.toml (Python 3.10 has no tomllib)."""
    match = re.search(rf"^{key} = (\[.*?\])", PYPROJECT, re.MULTILINE | re.DOTALL)
    assert match, f"pyproject.toml has no list {key}"
    return set(json.loads(match.group(1)))


LOAD_THE_PACK = """
import asyncio, json, sys
from comfy.cli_args import args
args.cpu, args.base_directory = True, sys.argv[2]
import nodes
before = set(sys.modules)
assert asyncio.run(nodes.load_custom_node(sys.argv[1]))
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_loading_the_pack_imports_nothing_heavy(comfyui_path: Path, tmp_path: Path) -> None:
    """Start-up is held by what it imports: a wall time would only measure the machine."""
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD_THE_PACK, str(ROOT), str(tmp_path)],
        cwd=comfyui_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    new = json.loads(loaded.stdout.splitlines()[-1])
    own = [name for name in new if name.startswith(str(ROOT).replace(".", "_x_"))]
    assert own, "ComfyUI did not load the pack"
    assert not [name for name in own if ".training" in name.removeprefix(str(ROOT))]
    heavy = {"diffusers", "peft", "accelerate", "transformers", "kornia", "torchvision", "tyro", "rich"}
    assert not heavy & {name.split(".")[0] for name in new}
