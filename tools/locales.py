"""Translations of what the nodes say: `python -m unclutter.tools.locales LANGUAGE` writes or completes `locales/LANGUAGE/nodeDefs.json`.

ComfyUI reads that file for its own languages (zh, zh-TW, ja, ko, ru, fr, es, ...) and falls back to English for what is
not in it. This script asks a real ComfyUI (COMFYUI_PATH, by default ~/comfy/ComfyUI) what the nodes say in English, keeps
every translation that is there, adds the English text of what is not, for a person to translate, and drops what is gone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from unclutter.tools.comfy_page import comfyui_path
from unclutter.training.comfyui_server import ComfyServer

FOLDER = Path(__file__).resolve().parent.parent / "locales"


def main(language: str) -> None:
    with tempfile.TemporaryDirectory() as folder, ComfyServer(comfyui_path(), Path(folder)) as server:
        english = said_by(server.object_info())
    file = FOLDER / language / "nodeDefs.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    translated = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(completed(english, translated), ensure_ascii=False, indent=1) + "\n")
    print(f"{file}: {sum(path not in flat(translated) for path in flat(english))} texts are new and still in English")


def said_by(object_info: dict[str, Any]) -> dict[str, Any]:
    """The words of this pack's nodes, {node id: as in nodeDefs.json}, from all that a server publishes."""
    return {
        name: {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": said_by_inputs(info["input"]),
            "outputs": {
                str(index): {"name": output, "tooltip": tooltip}
                for index, (output, tooltip) in enumerate(
                    zip(info["output_name"], info["output_tooltips"], strict=True)
                )
            },
        }
        for name, info in object_info.items()
        if name.startswith("Unclutter")
    }


def said_by_inputs(sections: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Also of the widgets that come with an option of a dynamic drop-down, by the page's name for them."""
    said = {}
    for name, (kind, options) in {**sections.get("required", {}), **sections.get("optional", {})}.items():
        said[prefix + name] = {"name": options.get("display_name") or name, "tooltip": options["tooltip"]}
        if kind == "COMFY_DYNAMICCOMBO_V3":
            for option in options["options"]:
                said |= said_by_inputs(option["inputs"], f"{prefix}{name}_")
    return said


def completed(english: Any, translated: Any) -> Any:
    """`english` with every text of `translated` that stands in the same place."""
    if isinstance(english, dict):
        there = translated if isinstance(translated, dict) else {}
        return {key: completed(value, there.get(key)) for key, value in english.items()}
    return translated or english


def flat(said: Any, path: str = "") -> dict[str, str]:
    """The texts by their place, such as UnclutterCropToMask.inputs.context.tooltip."""
    if not isinstance(said, dict):
        return {path.removesuffix("."): said}
    return {place: text for key, value in said.items() for place, text in flat(value, f"{path}{key}.").items()}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give one language as ComfyUI calls it, such as zh or fr: python -m unclutter.tools.locales fr")
    main(sys.argv[1])
