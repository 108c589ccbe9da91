"""The graphs that the pack ships as templates: what `make workflows` lays out, in words a person can edit.

A template is a note and some columns of nodes, from left to right; each column becomes a group. An input that begins with
"@" is a link to a node of the same template by its key and the name of its output, as in "@picture.MASK"; a list of such a
link and a value is one whose widget shows that value.
File names are all that ComfyUI's template browser shows and searches, so they say what a person wants. It takes no order from
a pack: it lists the files as the file system does, or by the alphabet where one chooses so, and their alphabet is the order
in which a newcomer should meet them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

INPAINTING = "sd_xl_base_1.0_inpainting_0.1.safetensors"
SAM3 = "sam3.1_multiplex_fp16.safetensors"
BASE = "sd_xl_base_1.0.safetensors"
SD3 = "sd3.5_large_fp8_scaled.safetensors"
HUGGING_FACE = "https://huggingface.co"
COMFY, SPLIT = f"{HUGGING_FACE}/Comfy-Org", "resolve/main/split_files"
FLUX_FILES = f"{HUGGING_FACE}/comfyanonymous/flux_text_encoders/resolve/main"
OSOR = f"{HUGGING_FACE}/QinmingZhou/OSOR/resolve/main"
MODELS = {
    SAM3: ("checkpoints", f"{HUGGING_FACE}/Comfy-Org/sam3.1/resolve/main/checkpoints/{SAM3}"),
    INPAINTING: ("checkpoints", f"{HUGGING_FACE}/wangqyqq/{INPAINTING}/resolve/main/{INPAINTING}"),
    BASE: ("checkpoints", f"{HUGGING_FACE}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/{BASE}"),
    "sdxlinpainting_phase2.pth": ("loras", f"{OSOR}/osor-sdxlinpainting/weights/sdxlinpainting_phase2.pth"),
    "fluxfill_phase2.pth": ("loras", f"{OSOR}/osor-fluxfill/weights/fluxfill_phase2.pth"),
    "flux1-fill-dev.safetensors": (
        "diffusion_models",
        f"{HUGGING_FACE}/black-forest-labs/FLUX.1-Fill-dev/resolve/main/flux1-fill-dev.safetensors",
    ),
    "clip_l.safetensors": ("text_encoders", f"{FLUX_FILES}/clip_l.safetensors"),
    "t5xxl_fp16.safetensors": ("text_encoders", f"{FLUX_FILES}/t5xxl_fp16.safetensors"),
    "flux-2-klein-4b-fp8.safetensors": (
        "diffusion_models",
        f"{HUGGING_FACE}/black-forest-labs/FLUX.2-klein-4b-fp8/resolve/main/flux-2-klein-4b-fp8.safetensors",
    ),
    "qwen_3_4b.safetensors": ("text_encoders", f"{COMFY}/z_image_turbo/{SPLIT}/text_encoders/qwen_3_4b.safetensors"),
    "flux2-vae.safetensors": ("vae", f"{COMFY}/flux2-dev/{SPLIT}/vae/flux2-vae.safetensors"),
    "qwen_image_edit_2511_fp8mixed.safetensors": (
        "diffusion_models",
        f"{COMFY}/Qwen-Image-Edit_ComfyUI/{SPLIT}/diffusion_models/qwen_image_edit_2511_fp8mixed.safetensors",
    ),
    "qwen_2.5_vl_7b_fp8_scaled.safetensors": (
        "text_encoders",
        f"{COMFY}/Qwen-Image_ComfyUI/{SPLIT}/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
    ),
    "qwen_image_vae.safetensors": ("vae", f"{COMFY}/Qwen-Image_ComfyUI/{SPLIT}/vae/qwen_image_vae.safetensors"),
    "z_image_turbo_bf16.safetensors": (
        "diffusion_models",
        f"{COMFY}/z_image_turbo/{SPLIT}/diffusion_models/z_image_turbo_bf16.safetensors",
    ),
    SD3: ("checkpoints", f"{COMFY}/stable-diffusion-3.5-fp8/resolve/main/{SD3}"),
    "ae.safetensors": ("vae", f"{HUGGING_FACE}/black-forest-labs/FLUX.1-dev/resolve/main/ae.safetensors"),
}
"""Every file that ComfyUI's missing-model dialog can fetch by a click: its folder in models/, and its address."""

PAINT = "Load a picture of your own, right-click it, open the mask editor and paint what is to go."
KEPT = "Every pixel beyond the mask and its soft border stays as it was."
TOY = "A toy: it knows drawn scenes, a photo comes out spoiled. Nothing to download: press Run."
SHADOWS = (
    "One call of the network takes the object with its shadow and reflection; the mask may be careless. *What it took* "
    "shows how far each pixel was replaced. For a shadow that reaches far raise *surroundings* in *Crop To Mask*."
)


@dataclass(frozen=True)
class Node:
    """A node of a template: `height` is that of its picture or text, in addition to what its widgets need."""

    key: str
    type: str
    title: str
    inputs: dict[str, Any] = field(default_factory=dict)
    height: int = 0


App = tuple[list[tuple[str, str, str]], list[str]]


@dataclass(frozen=True)
class Template:
    """`app` names the inputs, as (key, widget, what it is called), and the outputs, as keys, of the same graph as an app."""

    note: str
    columns: dict[str, list[Node]]
    app: App | None = None


@dataclass(frozen=True)
class Scale:
    """The values that differ between the mini model and a real one."""

    loader: Node
    minimum: int
    maximum: int
    multiple: int
    feather: int
    steps: int
    enlarge: int = 1
    photo: str = ""


def toy(lora: str = "none") -> Scale:
    loader = Node("model", "UnclutterLoadMini", "Load Mini Model", {"lora": lora})
    return Scale(loader, 64, 128, 8, 2, 20, enlarge=8)


TOY_SCALE = toy()


def sdxl(checkpoint: str, photo: str = "rocket") -> Scale:
    loader = Node("model", "CheckpointLoaderSimple", "Load Checkpoint", {"ckpt_name": checkpoint})
    return Scale(loader, 1024, 0, 64, 8, 50, photo=photo)


def picture(scale: Scale) -> Node:
    if scale.enlarge > 1:
        return Node("picture", "UnclutterExampleScene", "Example Scene", {"seed": 3, "control_after_generate": "fixed"})
    return Node("picture", "LoadImage", "Picture", {"image": f"unclutter_{scale.photo}.png [temp]"}, 230)


def with_lora(scale: Scale, file: str) -> tuple[list[Node], str]:
    """The loaders of a model and of the LoRA in a file, and the key of the last; the mini model's loader puts it on itself."""
    if not file or scale.enlarge > 1:
        return [scale.loader], scale.loader.key
    values = {"model": "@model.MODEL", "clip": "@model.CLIP", "lora_name": file, "strength_clip": 0.0}
    return [scale.loader, Node("lora", "LoraLoader", "LoRA of the training", values)], "lora"


def result(scale: Scale, source: str, prefix: str) -> list[Node]:
    """Save Image; the picture of the mini model is enlarged first, or it would be a stamp on screen."""
    if scale.enlarge == 1:
        return [
            Node("result", "SaveImage", "Result", {"images": source, "filename_prefix": f"unclutter/{prefix}"}, 260)
        ]
    values = {"image": source, "upscale_method": "nearest-exact", "scale_by": float(scale.enlarge)}
    return [
        Node("larger", "ImageScaleBy", f"Show it {scale.enlarge} times as large", values),
        Node(
            "result", "SaveImage", "Result", {"images": "@larger.IMAGE", "filename_prefix": f"unclutter/{prefix}"}, 260
        ),
    ]


def masked(scale: Scale, **growth: Any) -> list[Node]:
    drawn = {"mask": "@picture.MASK", "image": "@picture.IMAGE", **growth}
    return [
        Node("mask", "UnclutterPrepareMask", "Prepare Removal Mask", drawn),
        Node("shown", "PreviewImage", "What will be removed", {"images": "@mask.preview"}, 190),
        crop(scale, "@mask.mask", 0.5),
    ]


def crop(scale: Scale, mask: str, context: float) -> Node:
    sizes = {"multiple": scale.multiple, "minimum": scale.minimum, "maximum": scale.maximum}
    values = {"image": "@picture.IMAGE", "mask": mask, "context": context, **sizes}
    return Node("crop", "UnclutterCropToMask", "Crop To Mask", values)


def prompts(wanted: str = "", clip: str = "@model.CLIP") -> list[Node]:
    return [
        Node("positive", "CLIPTextEncode", "What to put in its place", {"clip": clip, "text": wanted}, 50),
        Node("negative", "CLIPTextEncode", "What to keep away", {"clip": clip, "text": ""}, 50),
    ]


def conditioning(
    shown: str = "masked grey", pooling: str = "max", prompt: str = "@positive.CONDITIONING", draft: bool = False
) -> Node:
    negative = "@prompt.negative" if prompt.startswith("@prompt") else "@negative.CONDITIONING"
    values = {
        "positive": prompt,
        "negative": negative,
        "vae": "@model.VAE",
        "image": "@crop.image",
        "mask": "@crop.mask",
    }
    values |= {"condition_image": shown, "mask_pooling": pooling, **({"draft": "@draft.image"} if draft else {})}
    return Node("conditioning", "UnclutterRemovalConditioning", "Removal Conditioning", values)


def decoded(scale: Scale, samples: str) -> list[Node]:
    pasted = {"image": "@decoded.IMAGE", "crop": "@crop.crop", "feather": scale.feather}
    return [
        Node("decoded", "VAEDecode", "VAE Decode", {"samples": samples, "vae": "@model.VAE"}),
        Node("pasted", "UnclutterPasteBack", "Paste Back", pasted),
    ]


SCENE = "scene"


def app_of(scale: Scale, *shown: tuple[str, str]) -> App | None:
    """A toy as an app: which scene, the given seeds, and the result."""
    if scale.enlarge == 1:
        return None
    return [("picture", "seed", SCENE), *((key, widget, "seed") for key, widget in shown)], ["result"]


def remove_object(scale: Scale | None, note: str, prefix: str, **widgets: Any) -> Template:
    """The one node that does it all; without a model it fills from the picture itself."""
    wanted = {
        "image": "@picture.IMAGE",
        "mask": "@picture.MASK",
        "seed": 1,
        "control_after_generate": "fixed",
        **widgets,
    }
    if scale:
        wanted |= {name: f"@model.{name.upper()}" for name in ("model", "vae", "clip")}
    scale, loaders = scale or sdxl(""), [scale.loader] if scale else []
    columns = {
        "1. Your picture": [picture(scale), *loaders],
        "2. Remove": [Node("remove", "UnclutterRemoveObject", "Remove Object", wanted)],
        "3. Result": result(scale, "@remove.image", prefix),
    }
    first = ("picture", "image", "picture") if scale.enlarge == 1 else ("picture", "seed", SCENE)
    return Template(note, columns, ([first, ("remove", "seed", "seed")], ["result"]))


def drafted() -> list[Node]:
    """Draft Fill of the part that is worked on, and a look at it."""
    return [
        Node("draft", "UnclutterDraftFill", "Draft Fill", {"image": "@crop.image", "mask": "@crop.mask"}),
        Node("begun", "PreviewImage", "What it begins from", {"images": "@draft.image"}, 190),
    ]


def attention(
    scale: Scale,
    note: str,
    method: Node,
    prefix: str,
    denoise: float = 1.0,
    lora_file: str = "",
    draft: bool = False,
    growth: dict[str, Any] | None = None,
    **sampling: Any,
) -> Template:
    """A method that changes the model's attention, so that any KSampler samples with it; from the draft or the picture.
    `growth` is how the mask grows and `sampling` are the sampler's settings, where they are not the usual ones."""
    sampler = {
        "model": f"@{method.key}.model",
        **{name: f"@conditioning.{name}" for name in ("positive", "negative")},
        "latent_image": "@conditioning.latent",
        **{"seed": 1, "control_after_generate": "fixed", "steps": scale.steps, "cfg": 1.0, "sampler_name": "euler"},
        **{"scheduler": "simple", "denoise": denoise},
        **sampling,
    }
    loaders, trained = with_lora(scale, lora_file)
    method = dataclasses.replace(method, inputs={**method.inputs, "model": f"@{trained}.MODEL"})
    pooling = "nearest" if lora_file and scale.enlarge == 1 else "max"
    columns = {
        "Picture and model": [picture(scale), *loaders],
        "Mask": masked(scale, **(growth or {})),
        **({"Draft": drafted()} if draft else {}),
        "Prompt": [*prompts(clip=f"@{trained}.CLIP"), conditioning(pooling=pooling, draft=draft)],
        "Method": [method, Node("sampler", "KSampler", "Remove", sampler)],
        "Result": [*decoded(scale, "@sampler.LATENT"), *result(scale, "@pasted.image", prefix)],
    }
    return Template(note, columns, app_of(scale, ("sampler", "seed")))


def masg(scale: Scale, note: str, strength: float, prefix: str, lora_file: str = "") -> Template:
    """MASG as the guider of SamplerCustomAdvanced, with a written prompt, or with LRNR's LoRA and learned prompt."""
    loaders, trained = with_lora(scale, lora_file)
    model, shown = f"@{trained}.MODEL", "full" if lora_file else "masked grey"
    learned = {"clip": f"@{trained}.CLIP", "file": lora_file}
    written = prompts("background")
    condition = conditioning(shown)
    if lora_file:
        written = [Node("prompt", "UnclutterLoadRemovalPrompt", "Load Removal Prompt", learned)]
        condition = conditioning(shown, "max" if scale.enlarge > 1 else "nearest", "@prompt.positive")
    guided = {"model": model, "positive": "@conditioning.positive", "negative": "@conditioning.negative"}
    guided |= {"mask": "@crop.mask", "sigmas": "@sigmas.SIGMAS", "mask_scale": strength}
    sampled = {"noise": "@noise.NOISE", "guider": "@guider.guider", "sampler": "@method.SAMPLER"}
    sampled |= {"sigmas": "@sigmas.SIGMAS", "latent_image": "@conditioning.latent"}
    columns = {
        "Picture and model": [picture(scale), *loaders],
        "Mask": masked(scale),
        "Prompt": [*written, condition],
        "Guidance": [
            Node("sigmas", "BasicScheduler", "Steps", {"model": model, "scheduler": "simple", "steps": scale.steps}),
            Node("guider", "UnclutterMASGGuider", "MASG Guider", guided),
            Node("plot", "PreviewImage", "Strength at each step", {"images": "@guider.plot"}, 190),
        ],
        "Sample": [
            Node("noise", "RandomNoise", "Seed", {"noise_seed": 1, "control_after_generate": "fixed"}),
            Node("method", "KSamplerSelect", "Sampler", {"sampler_name": "euler"}),
            Node("sampler", "SamplerCustomAdvanced", "Remove", sampled),
        ],
        "Result": [*decoded(scale, "@sampler.output"), *result(scale, "@pasted.image", prefix)],
    }
    return Template(note, columns, app_of(scale, ("noise", "noise_seed")))


def one_step(scale: Scale, note: str, file: str, loaders: list[Node] | None = None) -> Template:
    """OSOR: one call of the network takes the object and its effects, and says by its alpha what it took."""
    erased = {"model": "@eraser.model", "image": "@crop.image", "mask": "@crop.mask"}
    erased |= {"vae": "@vae.VAE" if loaders else "@model.VAE", "seed": 1, "control_after_generate": "fixed"}
    eraser = {"model": "@model.MODEL", "file": file, **({"clip": "@clip.CLIP"} if loaders else {})}
    pasted = {"image": "@erased.image", "crop": "@crop.crop", "mask": "@erased.alpha", "feather": scale.feather}
    columns = {
        "Picture": [picture(scale), crop(scale, "@picture.MASK", 1.0)],
        "Model and eraser": [
            *(loaders or [scale.loader]),
            Node("eraser", "UnclutterLoadOneStep", "Load One-Step Eraser", eraser),
        ],
        "Erase": [
            Node("erased", "UnclutterOneStepErase", "One-Step Erase", erased),
            Node("alpha", "MaskPreview", "What it took, shadow and all", {"mask": "@erased.alpha"}, 190),
        ],
        "Result": [
            Node("pasted", "UnclutterPasteBack", "Paste Back", pasted),
            *result(scale, "@pasted.image", "one_step"),
        ],
    }
    return Template(note, columns, app_of(scale, ("erased", "seed")))


def one_step_sampler(scale: Scale, note: str, file: str) -> Template:
    """The removal of shadow and object in one step, built of the nodes of a sampling graph."""
    shown = {name: "@prompt.CONDITIONING" for name in ("positive", "negative")}
    shown |= {"vae": "@model.VAE", "image": "@crop.image", "mask": "@crop.mask", "condition_image": "full"}
    shown |= {"keep_background": False}
    sampled = {"noise": "@noise.NOISE", "guider": "@guider.GUIDER", "sampler": "@step.sampler"}
    sampled |= {"sigmas": "@step.sigmas", "latent_image": "@conditioning.latent"}
    reach = {"mask": "@crop.mask", "image": "@crop.image", "grow_percent": 60.0}
    pasted = {"image": "@decoded.IMAGE", "crop": "@crop.crop", "mask": "@reach.mask", "feather": scale.feather}
    words = {"clip": "@model.CLIP", "text": "Remove the instance of object"}
    columns = {
        "Picture and model": [
            picture(scale),
            scale.loader,
            Node("eraser", "UnclutterLoadOneStep", "Load One-Step Eraser", {"model": "@model.MODEL", "file": file}),
        ],
        "What the model sees": [
            crop(scale, "@picture.MASK", 1.0),
            Node("prompt", "CLIPTextEncode", "OSOR's prompt", words, 50),
            Node("conditioning", "UnclutterRemovalConditioning", "Removal Conditioning", shown),
        ],
        "Erase": [
            Node("noise", "RandomNoise", "Seed", {"noise_seed": 1, "control_after_generate": "fixed"}),
            Node(
                "guider",
                "BasicGuider",
                "No guidance",
                {"model": "@eraser.model", "conditioning": "@conditioning.positive"},
            ),
            Node("step", "UnclutterOneStepSampler", "One-Step Sampler", {"model": "@eraser.model"}),
            Node("sampler", "SamplerCustomAdvanced", "Erase", sampled),
            Node("decoded", "VAEDecode", "VAE Decode", {"samples": "@sampler.output", "vae": "@model.VAE"}),
        ],
        "How far it may reach": [
            Node("reach", "UnclutterPrepareMask", "May change", reach),
            Node("shown", "PreviewImage", "What may change, in red", {"images": "@reach.preview"}, 190),
            Node("pasted", "UnclutterPasteBack", "Paste Back", pasted),
        ],
        "Result": result(scale, "@pasted.image", "one_step_sampler"),
    }
    return Template(note, columns, app_of(scale, ("noise", "noise_seed")))


def people(scale: Scale, note: str, file: str, poses: bool = False) -> Template:
    """MILD: one sampling gives a layer per person, and then any subset of them is one click away; with `poses` it is told
    where bodies and their parts are."""
    toy = scale.enlarge > 1

    def text(key: str, title: str, words: str) -> Node:
        return Node(key, "CLIPTextEncode", title, {"clip": "@model.CLIP", "text": words}, 30)

    def composed(key: str, title: str, remove: str) -> Node:
        values = {"layers": "@layers.layers", "remove": remove, "feather": 1 if toy else 4}
        return Node(key, "UnclutterComposeLayers", title, values)

    scene = {"seed": 3, "control_after_generate": "fixed", "difficulty": "crowd" if toy else "people"}
    scene |= {} if toy else {"size": 1024}
    sampled = {"layered_model": "@eraser.layered_model", "image": "@scene.image", "masks": "@scene.masks"}
    sampled |= {"person": "@person.CONDITIONING", "background": "@background.CONDITIONING"}
    sampled |= {"negative": "@negative.CONDITIONING", "vae": "@model.VAE", "steps": scale.steps}
    sampled |= {
        "seed": 1,
        "control_after_generate": "fixed",
        "minimum": scale.minimum,
        "maximum": scale.maximum or 1024,
    }
    if toy:
        sampled |= {"cfg": 1.0, "person_cfg": 1.0}
    saved = {"layers": "@without.layers", "filename_prefix": "unclutter/layers"}
    another = [
        composed("nobody", "Nobody", "all"),
        Node("empty", "PreviewImage", "Nobody", {"images": "@nobody.image"}, 230),
    ]
    bodies = []
    if poses:
        sampled |= {"guidance": "@bodies.guidance"}
        told = {"masks": "@scene.masks", "pose": "@scene.pose", "parsing": "@scene.parsing"}
        bodies = [
            Node("bodies", "UnclutterHumanMorphology", "Human Morphology Guidance", told),
            Node("skeletons", "PreviewImage", "The poses", {"images": "@scene.pose"}, 190),
        ]
    columns = {
        "Picture, a mask per person": [
            Node("scene", "UnclutterExampleScene", "Example Scene", scene),
            Node("shown", "PreviewImage", "The picture", {"images": "@scene.image"}, 190),
        ],
        **({"Bodies": bodies} if poses else {}),
        "Model, eraser and prompts": [
            scale.loader,
            Node("eraser", "UnclutterLoadLayered", "Load Layered Eraser", {"model": "@model.MODEL", "file": file}),
            text("person", "What the people are", "a person"),
            text("background", "What is behind them", "clean background, empty scene"),
            text("negative", "What to keep away", ""),
        ],
        "Layers": [Node("layers", "UnclutterLayeredSampler", "Layered Sampler", sampled)],
        "Any subset": [composed("without", "Without person 3", "3"), *result(scale, "@without.image", "people")],
        **({} if poses else {"Another": another}),
        "Who is who, and a file": [
            Node("numbers", "PreviewImage", "Who is who", {"images": "@layers.preview"}, 190),
            Node("saved", "UnclutterSaveLayers", "Save Layers", saved),
        ],
    }
    shown = [("scene", "seed", SCENE), ("without", "remove", "who goes (2; 1, 3; all)"), ("layers", "seed", "seed")]
    app: App | None = (shown, ["result"]) if toy else None
    return Template(note, columns, app)


SRA = Node(
    "sra",
    "UnclutterSelfRectifyingAttention",
    "Self-Rectifying Attention",
    {"model": "@model.MODEL", "mask": "@crop.mask"},
)


def attentive(scale: float, **settings: Any) -> Node:
    values = {"model": "@model.MODEL", "mask": "@crop.mask", "removal_scale": scale, **settings}
    return Node("aas", "UnclutterAttentiveEraser", "Attentive Eraser", values)


def note(title: str, *paragraphs: str) -> str:
    """Markdown in sizes that can be read at the zoom at which a template opens."""
    return "\n".join((f"# {title}", *(f"### {paragraph}" for paragraph in paragraphs)))


TRAIN = "No weights have been released for this method: train them with *unclutter train {}*, then put {}."
STEPS = "What *Remove Object* does with this method, part by part, for those who want to change one."

SAID = "Say what goes in *Words*: *rocket*, or several with commas. *person:5* is up to five of them."
SDXL_SCALE = sdxl(INPAINTING)


def found(**inputs: Any) -> list[Node]:
    """SAM3, what it is asked for, and a look at what it found."""
    detect = {"model": "@sam.MODEL", "image": "@picture.IMAGE", **inputs}
    return [
        Node("detect", "SAM3_Detect", "Find it", detect),
        Node("shown", "MaskPreview", "What was found", {"mask": "@detect.masks"}, 190),
    ]


def words(text: str) -> Node:
    return Node("words", "CLIPTextEncode", "Words", {"clip": "@sam.CLIP", "text": text}, 30)


def sam() -> Node:
    return Node("sam", "CheckpointLoaderSimple", "Load SAM3", {"ckpt_name": SAM3})


def removed() -> Node:
    wanted = {"image": "@picture.IMAGE", "mask": "@detect.masks", "seed": 1, "control_after_generate": "fixed"}
    wanted |= {name: f"@model.{name.upper()}" for name in ("model", "vae", "clip")}
    return Node("remove", "UnclutterRemoveObject", "Remove Object", wanted)


def by_words() -> Template:
    columns = {
        "1. Picture and models": [picture(SDXL_SCALE), sam(), SDXL_SCALE.loader],
        "2. Say what goes": [words("rocket"), *found(conditioning="@words.CONDITIONING")],
        "3. Remove": [removed()],
        "4. Result": result(SDXL_SCALE, "@remove.image", "removed"),
    }
    shown = [("picture", "image", "picture"), ("words", "text", "what goes"), ("remove", "seed", "seed")]
    app: App = (shown, ["result"])
    return Template(note("Type what goes", SAID, "Remove the checkpoint's links for a draft. " + KEPT), columns, app)


def by_boxes() -> Template:
    box = {
        "x": 276,
        "y": 116,
        "width": 90,
        "height": 300,
        "metadata": {"type": "obj", "text": "", "desc": "", "palette": []},
    }
    # The editor goes by the widgets until a run tells it the picture's size.
    drawn = {"width": ["@size.width", 640], "height": ["@size.height", 427], "editor_state": [box]}
    drawn |= {"background": "@picture.IMAGE"}
    columns = {
        "1. Picture and models": [picture(SDXL_SCALE), sam(), SDXL_SCALE.loader],
        "2. Frame what goes": [
            Node("size", "GetImageSize", "Size of the picture", {"image": "@picture.IMAGE"}),
            Node("boxes", "CreateBoundingBoxes", "Draw a box around it", drawn, 60),
        ],
        "3. Find it": found(bboxes="@boxes.bboxes"),
        "4. Remove": [removed()],
        "5. Result": result(SDXL_SCALE, "@remove.image", "removed"),
    }
    how = "Draw boxes on the picture, and the object in each goes. Run once to see the picture there."
    nodes_2 = "ComfyUI draws this editor in Nodes 2.0 only: turn it on in the menu."
    return Template(note("Draw a box around what goes", how, nodes_2 + " " + KEPT), columns)


def people_by_words() -> Template:
    def text(key: str, title: str, said: str) -> Node:
        return Node(key, "CLIPTextEncode", title, {"clip": "@model.CLIP", "text": said}, 30)

    sampled = {"layered_model": "@eraser.layered_model", "image": "@picture.IMAGE", "masks": "@detect.masks"}
    sampled |= {name: f"@{name}.CONDITIONING" for name in ("person", "background", "negative")}
    sampled |= {"vae": "@model.VAE", "seed": 1, "control_after_generate": "fixed", "steps": 25}
    columns = {
        "1. Picture and models": [
            picture(sdxl(INPAINTING, "camera")),
            sam(),
            SDXL_SCALE.loader,
            Node(
                "eraser",
                "UnclutterLoadLayered",
                "Load Layered Eraser",
                {"model": "@model.MODEL", "file": "unclutter-mild.safetensors"},
            ),
        ],
        "2. A mask for each": [
            words("person:20"),
            *found(conditioning="@words.CONDITIONING", individual_masks=True),
        ],
        "3. Prompts": [
            text("person", "What the people are", "a person"),
            text("background", "What is behind them", "clean background, empty scene"),
            text("negative", "What to keep away", ""),
        ],
        "4. Layers": [Node("layers", "UnclutterLayeredSampler", "Layered Sampler", sampled)],
        "5. Who goes": [
            Node("without", "UnclutterComposeLayers", "Who goes", {"layers": "@layers.layers", "remove": "all"}),
            *result(SDXL_SCALE, "@without.image", "people"),
        ],
    }
    how = (
        "SAM3 gives one mask for each person, *Layered Sampler* a layer for each, and *Who goes* any subset at once: *2*, "
        "*1, 3*, *all but 2*, *all*. The layered eraser has to be trained: *unclutter train mild*."
    )
    return Template(note("People found by words, as layers", how), columns)


def on_family(
    note: str, unet: str, text_encoder: tuple[str, str], vae: str, shift: float = 0.0, **widgets: Any
) -> Template:
    """Remove Object on a model whose parts are files of their own; `shift` as its makers sample it."""
    loaders = [
        Node("model", "UNETLoader", "Load Diffusion Model", {"unet_name": unet}),
        Node("clip", "CLIPLoader", "Load Text Encoder", {"clip_name": text_encoder[0], "type": text_encoder[1]}),
        Node("vae", "VAELoader", "Load VAE", {"vae_name": vae}),
    ]
    model = "@model.MODEL"
    if shift:
        values = {"model": model, "shift": shift}
        loaders.append(Node("shifted", "ModelSamplingAuraFlow", "Shift, as its makers sample", values))
        model = "@shifted.MODEL"
    wanted = {"image": "@picture.IMAGE", "mask": "@picture.MASK", "seed": 1, "control_after_generate": "fixed"}
    wanted |= {"model": model, "clip": "@clip.CLIP", "vae": "@vae.VAE", **widgets}
    scale = sdxl("", "coffee")
    columns = {
        "1. Your picture": [picture(scale)],
        "2. Model": loaders,
        "3. Remove": [Node("remove", "UnclutterRemoveObject", "Remove Object", wanted)],
        "4. Result": result(scale, "@remove.image", "removed"),
    }
    return Template(note, columns)


UNSEEN = "How well this model removes with the pack nobody has shown yet: tell us."
EDITS = "The model sees the picture, and again with the mask in red, and is told to remove what is red. Or tell it yourself, in *words for background*."

TEMPLATES = {
    "Remove by asking, FLUX.2 Klein": on_family(
        note("An edit model is shown what goes, FLUX.2 Klein", EDITS, PAINT, UNSEEN),
        "flux-2-klein-4b-fp8.safetensors",
        ("qwen_3_4b.safetensors", "flux2"),
        "flux2-vae.safetensors",
        steps=4,
        references="picture and marked picture",
        start="noise",
    ),
    "Remove by asking, Qwen Edit": on_family(
        note("An edit model is shown what goes, Qwen-Image-Edit", EDITS, PAINT, UNSEEN),
        "qwen_image_edit_2511_fp8mixed.safetensors",
        ("qwen_2.5_vl_7b_fp8_scaled.safetensors", "qwen_image"),
        "qwen_image_vae.safetensors",
        shift=3.1,
        references="picture and marked picture",
        start="noise",
    ),
    "Remove by attention, Z-Image": on_family(
        note("One node on Z-Image-Turbo, in 8 steps", "Its attention does not see the object. " + PAINT, UNSEEN, KEPT),
        "z_image_turbo_bf16.safetensors",
        ("qwen_3_4b.safetensors", "lumina2"),
        "ae.safetensors",
        shift=3.0,
        steps=8,
        denoise=0.8,
    ),
    "Remove by attention, SD 3.5": remove_object(
        sdxl(SD3, "coffee"),
        note("One node on Stable Diffusion 3.5", "Its attention does not see the object. " + PAINT, UNSEEN, KEPT),
        "removed",
        denoise=0.8,
    ),
    "Remove an object, no model": remove_object(
        None,
        note(
            "Press Run: the rocket goes, without any model",
            PAINT,
            "A draft: it copies the surroundings and understands nothing. Connect a checkpoint's model, clip and vae to "
            "*Remove Object* and it samples instead.",
        ),
        "draft",
    ),
    "Remove an object, SDXL": remove_object(
        sdxl(INPAINTING, "coffee"),
        note(
            "One node removes the object",
            "*Remove Object* takes the method that suits the checkpoint, and says on the node which one. " + PAINT,
            KEPT,
        ),
        "removed",
    ),
    "Remove object and shadow, FLUX": one_step(
        sdxl(INPAINTING, "coffee"),
        note(
            "An object with its shadow, in one step on FLUX", SHADOWS, PAINT, "OSOR's FLUX weights are non-commercial."
        ),
        "fluxfill_phase2.pth",
        [
            Node("model", "UNETLoader", "FLUX.1 Fill", {"unet_name": "flux1-fill-dev.safetensors"}),
            Node(
                "clip",
                "DualCLIPLoader",
                "Text encoders",
                {"clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl_fp16.safetensors", "type": "flux"},
            ),
            Node("vae", "VAELoader", "VAE", {"vae_name": "ae.safetensors"}),
        ],
    ),
    "Remove object and shadow, SDXL": one_step(
        sdxl(INPAINTING, "coffee"),
        note("An object with its shadow, in one step", SHADOWS, PAINT, KEPT),
        "sdxlinpainting_phase2.pth",
    ),
    "Remove by words, SDXL": by_words(),
    "Remove what a box marks, SDXL": by_boxes(),
    "Steps from a draft, SDXL": attention(
        sdxl(INPAINTING, "camera"),
        note(
            "A removal that begins from a draft",
            "*Draft Fill* copies the surroundings in, so that nothing of the object is left, and the model draws on from "
            "there. A lower *denoise* keeps more of the draft; raise it where the draft is wrong.",
            PAINT,
        ),
        SRA,
        "from_a_draft",
        0.7,
        draft=True,
    ),
    "Steps of Attentive Eraser, SDXL": attention(
        sdxl(BASE),
        note(
            "Attentive Eraser",
            STEPS,
            "It was made for a base checkpoint, not an inpainting one. Its authors grow the mask by 15 pixels at 1024: give "
            "*grow (pixels)* less for a smaller picture.",
            PAINT,
        ),
        attentive(9.0, suppression_steps=0.25),
        "attentive_eraser",
        0.8,
        growth={"grow_percent": 0.0, "grow_pixels": 15},
        **{"steps": 40, "scheduler": "ddim_uniform"},
    ),
    "Steps to remove, MASG, SDXL": masg(
        sdxl(INPAINTING, "rocket"), note("Mask-aware guidance (MASG)", STEPS, PAINT, KEPT), 12.5, "masg"
    ),
    "Steps to remove, one step, SDXL": one_step_sampler(
        sdxl(INPAINTING, "coffee"),
        note(
            "One-step erasing as a sampling graph",
            "What *One-Step Erase* does, for those who want to change the noise, the guider or the latent. The predicted "
            "alpha blends the latent; *May change* says how far the result reaches, shadow included.",
            PAINT,
        ),
        "sdxlinpainting_phase2.pth",
    ),
    "Steps to remove, SRA, SDXL": attention(
        sdxl(INPAINTING, "rocket"), note("Self-rectifying attention (SRA)", STEPS, PAINT, KEPT), SRA, "sra"
    ),
    "Toy model, Attentive Eraser": attention(
        TOY_SCALE, note("Attentive Eraser on the mini model", TOY), attentive(3.0), "attentive_eraser"
    ),
    "Toy model, from a draft": attention(
        TOY_SCALE,
        note(
            "A removal from a draft, on the mini model",
            TOY,
            "*Draft Fill* copies the surroundings in, and the model draws on from there, at a denoise of 0.4.",
        ),
        SRA,
        "from_a_draft",
        0.4,
        draft=True,
    ),
    "Toy model, people and poses": people(
        TOY_SCALE,
        note(
            "People as layers, with their poses",
            TOY,
            "*Human Morphology Guidance* tells where bodies and their parts are, so that hidden parts come out whole. For "
            "photographs take poses and parsing maps from a pack of preprocessors.",
        ),
        "unclutter-mini-mild.safetensors",
        poses=True,
    ),
    "Toy model, remove an object": remove_object(TOY_SCALE, note("Remove Object on the mini model", TOY), "removed"),
    "Toy model, remove by EraDiff": attention(
        toy("EraDiff"),
        note(
            "EraDiff on the mini model",
            TOY,
            "A LoRA of its training, and SRA. The LoRA alone fills better here: bypass *Self-Rectifying Attention* to see.",
        ),
        SRA,
        "eradiff",
        lora_file="unclutter-mini-eradiff.safetensors",
    ),
    "Toy model, remove by LRNR": masg(
        toy("LRNR"),
        note("LRNR on the mini model", TOY, "A learned prompt, a LoRA and MASG."),
        3.0,
        "lrnr",
        "unclutter-mini-lrnr.safetensors",
    ),
    "Toy model, remove by MASG": masg(TOY_SCALE, note("MASG on the mini model", TOY), 6.0, "masg"),
    "Toy model, remove by SRA": attention(TOY_SCALE, note("SRA on the mini model", TOY), SRA, "sra"),
    "Toy model, remove in one step": one_step(
        TOY_SCALE, note("One-step erasing on the mini model", TOY, SHADOWS), "unclutter-mini-osor.safetensors"
    ),
    "Toy model, remove people": people(
        TOY_SCALE,
        note(
            "People as layers, on the mini model",
            TOY,
            "*Layered Sampler* runs once; then *Compose Layers* shows any subset at once: *2*, *1, 3*, *all but 2*, *all*.",
        ),
        "unclutter-mini-mild.safetensors",
    ),
    "Toy model, steps of one step": one_step_sampler(
        TOY_SCALE, note("One-step erasing as a sampling graph", TOY), "unclutter-mini-osor.safetensors"
    ),
    "Train first, remove by EraDiff": attention(
        sdxl(INPAINTING, "coffee"),
        note(
            "EraDiff on SDXL",
            TRAIN.format("eradiff", "*lora.safetensors* into *models/loras* as *unclutter-eradiff.safetensors*"),
            PAINT,
        ),
        SRA,
        "eradiff",
        lora_file="unclutter-eradiff.safetensors",
    ),
    "Train first, remove by LRNR": masg(
        sdxl(INPAINTING, "rocket"),
        note(
            "LRNR on SDXL",
            TRAIN.format(
                "lrnr",
                "*lora.safetensors* into *models/loras* and *prompt.safetensors* into *models/embeddings*, both as "
                "*unclutter-lrnr.safetensors*",
            ),
            PAINT,
        ),
        12.5,
        "lrnr",
        "unclutter-lrnr.safetensors",
    ),
    "Train first, remove people": people(
        sdxl(INPAINTING),
        note(
            "People as layers, on SDXL",
            TRAIN.format("mild", "*layered.safetensors* into *models/loras* as *unclutter-mild.safetensors*"),
            "For your own: *Load Image*, and a mask per person from SAM3 or *Batch Masks*. They may overlap.",
            "*Layered Sampler* runs once; then *Compose Layers* shows any subset at once: *2*, *1, 3*, *all but 2*, *all*.",
        ),
        "unclutter-mild.safetensors",
    ),
    "Train first, people by words": people_by_words(),
}
APPS = tuple(name for name, template in TEMPLATES.items() if template.app)
"""The templates that also come as an app: NAME.app.json, which the page opens without its graph."""
