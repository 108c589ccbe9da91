"""Makes the pictures of the help pages, by the nodes themselves and from the weights that ship now.

    python -m unclutter.tools.make_help_pictures                        all of them
    python -m unclutter.tools.make_help_pictures UnclutterDraftFill     those of one node or more

Needs a ComfyUI (COMFYUI_PATH). ComfyUI's help panel is some 270 pixels wide, so the pictures stand one or two in a row.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from unclutter.adapters import photos
from unclutter.tools.comfy_page import comfyui_path
from unclutter.training.comfyui_server import PACK, ComfyServer

FOLDER = PACK / "web" / "docs" / "images"
WIDTH, GAP, FONT = 540, 12, 24
LARGE = {
    "UnclutterCropToMask": "png",
    "UnclutterDraftFill": "jpg",
    "UnclutterMASGGuider": "png",
    "UnclutterPasteBack": "png",
    "UnclutterPrepareMask": "png",
    "UnclutterRemoveObject": "jpg",
}
"""Nodes whose pictures stand one in a row, and the kind of file they are: photographs are JPEG."""
Link = list
Entry = tuple
"""A caption, a link to a node's pictures, and, where there are several, the index of the one to show."""


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, ComfyServer(comfyui_path(), Path(folder)) as server:
        graph = Graph(server)
        pages = pages_of(graph)
        if unknown := set(wanted) - set(pages):
            sys.exit(f"There is no picture of {', '.join(sorted(unknown))}: choose from {', '.join(pages)}.")
        pages = {name: pages[name] for name in wanted or pages}
        shown = {str(link): graph.preview(link) for entries in pages.values() for _, link, *_ in entries}
        outputs = server.post(graph.needed_by(shown.values()), timeout=1800)
        for name, entries in pages.items():
            pictures = [
                (caption, fetch(server, outputs[shown[str(link)]]["images"][index[0] if index else 0]))
                for caption, link, *index in entries
            ]
            sheet = in_rows(pictures, 1 if name in LARGE else 2)
            sheet.save(FOLDER / f"{name}.{LARGE.get(name, 'png')}", optimize=True, quality=88)
            print(name)


def pages_of(graph: Graph) -> dict[str, list[Entry]]:
    """The pictures of each page: node id -> captions and pictures."""
    add, mini = graph.add, graph.add("UnclutterLoadMini")
    one, two = graph.scene(16), graph.scene(23)

    def removed(scene: Node, method: str, **more: Any) -> Link:
        model = {"model": mini[0], "clip": mini[1], "vae": mini[2], "steps": 20, "feather": 2, "seed": 1}
        return add("UnclutterRemoveObject", image=scene[0], mask=scene[1], method=method, **model, **more)[0]

    def compared(name: str, method: str, **more: Any) -> list[Entry]:
        rows = [("picture", lambda scene: scene[0]), ("plain inpainting", lambda scene: removed(scene, "plain"))]
        rows.append((name, lambda scene: removed(scene, method, **more)))
        return [(caption, show(scene)) for caption, show in rows for scene in (one, two)]

    lrnr = {
        "method.lora": "unclutter-mini-lrnr.safetensors",
        "method.removal_prompt": "unclutter-mini-lrnr.safetensors",
    }
    osor = {"method.eraser": "unclutter-mini-osor.safetensors"}
    text = {word: add("CLIPTextEncode", clip=mini[1], text=word)[0] for word in ("background", "person", "")}

    # One step, by its own nodes.
    eraser = add("UnclutterLoadOneStep", model=mini[0], file=osor["method.eraser"], clip=mini[1])
    marked = add("UnclutterPrepareMask", mask=one[1], image=one[0])
    erased = add("UnclutterOneStepErase", model=eraser[0], vae=mini[2], image=one[0], mask=one[1], seed=1)
    alpha = add("MaskToImage", mask=erased[1])[0]
    mask = add("MaskToImage", mask=one[1])[0]

    # A crowd, and its layers.
    crowd = graph.scene(12, "crowd")
    guidance = add("UnclutterHumanMorphology", masks=crowd[2], pose=crowd[4], parsing=crowd[5])
    layered = add("UnclutterLoadLayered", model=mini[0], file="unclutter-mini-mild.safetensors")
    prompts = {"person": text["person"], "background": text["background"], "negative": text[""], "vae": mini[2]}
    size = {"minimum": 64, "maximum": 128, "seed": 1, "guidance": guidance[0]}
    layers = add("UnclutterLayeredSampler", layered_model=layered[0], image=crowd[0], masks=crowd[2], **prompts, **size)

    def composed(remove: str) -> Node:
        return add("UnclutterComposeLayers", layers=layers[0], remove=remove, feather=2)

    def without(remove: str) -> Entry:
        return f"without {remove}", composed(remove)[0]

    brightened = crowd[5]
    for _ in range(5):  # each time it is about twice as bright
        brightened = add("ImageBlend", image1=brightened, image2=brightened, blend_factor=1.0, blend_mode="screen")[0]
    masks, sheets = add("MaskToImage", mask=crowd[2])[0], composed("none")[2]
    of_people = [entry for k in (1, 2, 3) for entry in ((f"mask {k}", masks, k - 1), (f"layer of {k}", sheets, k))]

    # Larger scenes, for what is done to masks and crops.
    large = graph.scene(6, "texture", 512)
    grown = add("UnclutterPrepareMask", mask=large[1], image=large[0])
    small = add("GrowMask", mask=large[1], expand=-12, tapered_corners=True)[0]
    cut = add("UnclutterPrepareMask", mask=small, image=large[0], grow_percent=0.0)
    crop = add("UnclutterCropToMask", image=large[0], mask=grown[0], minimum=192)
    truth = add("UnclutterCropToMask", image=large[3], mask=grown[0], minimum=192)
    shift = add("EmptyImage", width=512, height=512, color=0xFF9060)
    shifted = add("ImageBlend", image1=truth[0], image2=shift[0], blend_factor=0.2, blend_mode="normal")[0]

    def pasted(**more: Any) -> Link:
        """The part of the picture around the mask, after the shifted result was pasted into it."""
        whole = add("UnclutterPasteBack", image=shifted, crop=crop[2], **more)[0]
        return add("UnclutterCropToMask", image=whole, mask=grown[0], minimum=192)[0]

    def shown_by(fill: Link) -> Link:
        return add("ImageCompositeMasked", destination=two[0], source=fill, mask=two[1], resize_source=True)[0]

    grey, black = (add("EmptyImage", width=64, height=64, color=color)[0] for color in (0x808080, 0))
    guider = add(
        "UnclutterMASGGuider",
        mask_scale=6.0,
        model=mini[0],
        positive=text["background"],
        negative=text[""],
        mask=two[1],
    )
    several = graph.scene(4, "objects", 256)
    apart = add("UnclutterSplitInstances", mask=graph.united(several[2], 5))
    people = graph.scene(0, "people", 256)
    parts = add("MaskToImage", mask=apart[0])[0]
    rocket, rocket_mask = graph.photograph("rocket.jpg"), graph.photograph("rocket_mask.png", "LoadImageMask")
    rocket_marked = add("UnclutterPrepareMask", mask=rocket_mask[0], image=rocket[0])[1]
    return {
        "UnclutterAttentiveEraser": compared("Attentive Eraser", "Attentive Eraser"),
        "UnclutterComposeLayers": [
            ("picture", crowd[0]),
            *(without(gone) for gone in ("1", "2", "3", "1, 2", "1, 3", "2, 3", "all")),
        ],
        "UnclutterCropToMask": [("the picture", grown[1]), ("the crop", crop[0])],
        "UnclutterDraftFill": [
            ("picture", rocket_marked),
            ("Draft Fill", add("UnclutterDraftFill", image=rocket[0], mask=rocket_mask[0])[0]),
        ],
        "UnclutterExampleScene": [
            ("people: image", people[0]),
            ("mask", add("MaskToImage", mask=people[1])[0]),
            ("truth", people[3]),
            *((name, graph.scene(3, name, 256)[0]) for name in ("objects", "smooth", "texture", "clutter", "crowd")),
        ],
        "UnclutterHumanMorphology": [
            ("picture", crowd[0]),
            ("pose", crowd[4]),
            ("parsing, brightened", brightened),
            without("3"),
        ],
        "UnclutterLayeredSampler": [("picture", crowd[0]), ("background layer", sheets, 0), *of_people],
        "UnclutterLoadLayered": [("picture", crowd[0]), without("3"), without("2, 3"), without("all")],
        "UnclutterLoadMini": [(f"scene {seed}", graph.scene(seed)[0]) for seed in (1, 2, 3, 4)],
        "UnclutterLoadOneStep": [
            ("picture", one[0]),
            ("mask", mask),
            ("the model, 20 steps", removed(one, "plain")),
            ("with the eraser, one step", erased[0]),
        ],
        "UnclutterLoadRemovalPrompt": compared("LRNR with MASG", "learned", **lrnr),
        "UnclutterMASGGuider": [("", guider[1])],
        "UnclutterOneStepErase": [("picture", one[0]), ("mask", mask), ("One-Step Erase", erased[0]), ("alpha", alpha)],
        "UnclutterOneStepSampler": [("picture", one[0]), ("may change", marked[1]), ("one step", erased[0])],
        "UnclutterPasteBack": [
            ("as it came", pasted(feather=0, match_color=False)),
            ("colours matched", pasted()),
        ],
        "UnclutterPrepareMask": [("cuts through the object", cut[1]), ("covers the object", grown[1])],
        "UnclutterRemovalConditioning": [
            ("full", two[0]),
            ("masked grey", shown_by(grey)),
            ("masked black", shown_by(black)),
            ("draft", add("UnclutterDraftFill", image=two[0], mask=two[1])[0]),
        ],
        "UnclutterRemoveObject": [
            ("what will be removed", rocket_marked),
            ("the draft", add("UnclutterRemoveObject", image=rocket[0], mask=rocket_mask[0], method="draft")[0]),
        ],
        "UnclutterSaveLayers": [
            ("Person 3", sheets, 3),
            ("Person 2", sheets, 2),
            ("Person 1", sheets, 1),
            ("Background", sheets, 0),
        ],
        "UnclutterSelfRectifyingAttention": compared("SRA", "SRA"),
        "UnclutterSplitInstances": [
            ("one mask", add("MaskToImage", mask=graph.united(several[2], 5))[0]),
            *((f"mask {k + 1}", parts, k) for k in range(5)),
        ],
    }


class Node(str):
    """The key of a node in a graph; `node[1]` is the link to its second output."""

    def __getitem__(self, output: Any) -> Any:
        return [str(self), output]


class Graph:
    """A graph in API format; inputs that are not given have the default that the server publishes."""

    def __init__(self, server: ComfyServer) -> None:
        self.server, self.published = server, server.object_info()
        self.nodes: dict[str, dict[str, Any]] = {}

    def add(self, kind: str, **inputs: Any) -> Node:
        values = {}
        for name, (type_, *options) in self.published[kind]["input"].get("required", {}).items():
            choices = type_ if isinstance(type_, list) else options[0].get("options") if options else None
            default = options[0].get("default") if options else None
            if default is None and choices:
                default = choices[0]["key"] if isinstance(choices[0], dict) else choices[0]
            if default is not None:
                values[name] = default
        key = Node(len(self.nodes))
        self.nodes[str(key)] = {"class_type": kind, "inputs": values | inputs, "_meta": {"title": kind}}
        return key

    def scene(self, seed: int, difficulty: str | None = None, size: int | None = None) -> Node:
        asked = {"seed": seed, "difficulty": difficulty, "size": size}
        return self.add("UnclutterExampleScene", **{name: value for name, value in asked.items() if value is not None})

    def photograph(self, name: str, kind: str = "LoadImage") -> Node:
        channel = {"channel": "red"} if kind == "LoadImageMask" else {}
        return self.add(kind, image=self.server.upload(photos.FOLDER / name), **channel)

    def united(self, masks: Link, count: int) -> Link:
        """`count` masks of a batch as one."""
        pictures, whole = self.add("MaskToImage", mask=masks)[0], None
        for index in range(count):
            picture = self.add("ImageFromBatch", image=pictures, batch_index=index)[0]
            mask = self.add("ImageToMask", image=picture, channel="red")[0]
            joined = {"destination": whole, "source": mask, "x": 0, "y": 0, "operation": "or"}
            whole = mask if whole is None else self.add("MaskComposite", **joined)[0]
        assert whole is not None
        return whole

    def preview(self, link: Link) -> str:
        return str(self.add("PreviewImage", images=link))

    def needed_by(self, outputs: Any) -> dict[str, dict[str, Any]]:
        """The part of the graph that these nodes need."""
        needed, waiting = {}, list(outputs)
        while waiting:
            key = waiting.pop()
            if key not in needed:
                needed[key] = self.nodes[key]
                waiting += [value[0] for value in self.nodes[key]["inputs"].values() if isinstance(value, list)]
        return needed


def fetch(server: ComfyServer, entry: dict[str, str]) -> Image.Image:
    """One picture of the server as RGB; what is transparent shows a chequerboard."""
    picture = Image.open(io.BytesIO(server.get("/view", **entry).content)).convert("RGBA")
    cell = max(picture.width // 16, 1)
    board = Image.new("RGBA", picture.size, "white")
    draw = ImageDraw.Draw(board)
    for y in range(0, picture.height, cell):
        for x in range(0, picture.width, cell):
            if (x + y) // cell % 2:
                draw.rectangle((x, y, x + cell - 1, y + cell - 1), fill="#cccccc")
    return Image.alpha_composite(board, picture).convert("RGB")


def in_rows(pictures: list[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """Captioned pictures, so many in a row, `WIDTH` pixels wide together."""
    width = (WIDTH - GAP * (columns - 1)) // columns
    font, rows = ImageFont.load_default(FONT), []
    for first in range(0, len(pictures), columns):
        captions, row = zip(*pictures[first : first + columns], strict=True)
        lines = [wrapped(caption, width, font) for caption in captions]
        scaled = [
            each.resize((width, round(each.height * width / each.width)), Image.Resampling.BICUBIC) for each in row
        ]
        rows.append((lines, (FONT + 5) * max(map(len, lines)), scaled, max(each.height for each in scaled)))
    sheet = Image.new("RGB", (WIDTH, sum(text + height + GAP for _, text, _, height in rows) - GAP), "white")
    draw, y = ImageDraw.Draw(sheet), 0
    for lines, text, scaled, height in rows:
        for column, (caption, picture) in enumerate(zip(lines, scaled, strict=True)):
            x = column * (width + GAP)
            for index, line in enumerate(caption):
                draw.text((x, y + index * (FONT + 5)), line, fill="black", font=font)
            sheet.paste(picture, (x, y + text))
        y += text + height + GAP
    return sheet


def wrapped(text: str, width: int, font: Any) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


if __name__ == "__main__":
    main(sys.argv[1:])
