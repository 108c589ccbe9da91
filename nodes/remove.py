"""Remove Object: the whole removal in one node, by the same functions as the nodes it stands for."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..kernels import regions
from . import host, masks, methods, removal
from .conditioning import references_input
from .draft import draft_fill
from .masks import PrepareMask
from .onestep import LoadOneStep
from .schema import Schema, advanced, check_limits, choice, chosen, seed_widget

ON_MODEL, BY_LORA = "the one on the model", "the one trained with the LoRA"


class RemoveObject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        eraser = io.Combo.Input(
            "eraser",
            options=[ON_MODEL, *host.one_step_files()],
            optional=True,
            tooltip="The one-step eraser, a file in models/loras, or the one that Load One-Step Eraser put on the model.",
        )
        lora = io.Combo.Input(
            "lora",
            options=[ON_MODEL, *host.lora_files()],
            optional=True,
            tooltip="The LoRA of LRNR's training, a file in models/loras, or the one that a LoRA loader put on the model.",
        )
        removal_prompt = io.Combo.Input(
            "removal_prompt",
            display_name="removal prompt",
            options=[BY_LORA, *host.embedding_files()],
            optional=True,
            tooltip="The removal prompt of the same training, a file in models/embeddings.",
        )
        options: dict[str, list[io.Input]] = {name: [] for name in methods.METHODS}
        options |= {"one step": [eraser], "learned": [lora, removal_prompt]}
        return Schema(
            node_id="UnclutterRemoveObject",
            display_name="Remove Object",
            category="Unclutter",
            description=(
                "Removes what the mask marks and fills the place from its surroundings. Picture and mask are enough for a "
                "draft; with a checkpoint connected it takes the method that suits the model, and says which."
            ),
            search_aliases=[
                "remove object",
                "erase",
                "eraser",
                "remove person",
                "inpaint",
                "object removal",
                "clean up",
                "delete object",
                "content-aware fill",
                "magic eraser",
            ],
            essentials_category="Image Tools",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("image", tooltip="The picture, of any size; or a batch of pictures."),
                io.Mask.Input(
                    "mask",
                    tooltip="White (1.0) is removed. One for all pictures, or one for each. To paint one: right click on Load "
                    "Image, Open in MaskEditor.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="A checkpoint's model: best an inpainting one (SDXL, SD, FLUX Fill). Without, the hole is filled "
                    "with copies of its surroundings: a draft.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The VAE of the same checkpoint."),
                io.Clip.Input("clip", optional=True, tooltip="The text encoders of the same checkpoint."),
                *choice(
                    "method",
                    options,
                    "auto goes by what the model is and carries, and says on the node what it took. one step: OSOR, with "
                    "shadow and reflection. learned: LRNR's LoRA and prompt. Attentive Eraser: for models that cannot "
                    "inpaint. SRA, MASG: for inpainting models. plain: ordinary inpainting. draft: no model at all.",
                ),
                seed_widget("Of the noise. Another seed gives another background."),
                io.Int.Input(
                    "steps",
                    display_name="steps (0: auto)",
                    default=0,
                    min=0,
                    max=1000,
                    step=1,
                    tooltip="0: as many as the method or the model's makers want. Up to 10 mean a model made for few steps "
                    "(Turbo, Lightning, LCM), without guidance; more mean a base model. 0 takes Klein, Z-Image and ERNIE for "
                    "their versions of few steps. One step and draft take none.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.1,
                    max=4.0,
                    step=0.05,
                    tooltip="How hard the object is pushed away: multiplies the method's own number. Raise it where the "
                    "object comes back, lower it where the place looks burnt. The draft takes none.",
                ),
                io.Float.Input(
                    "grow_percent",
                    display_name="grow (% of its size)",
                    default=7.5,
                    min=-50.0,
                    max=100.0,
                    step=0.5,
                    tooltip="Grow each object of the mask by this share of its own size. A mask a little too small brings the "
                    "object back; 5 to 10 % too large costs nothing.",
                ),
                advanced(
                    io.String.Input(
                        "background",
                        display_name="words for background",
                        default="",
                        tooltip="What is to be seen there, in words. Empty: nothing, and for MASG the word background.",
                    )
                ),
                advanced(
                    io.String.Input(
                        "negative_text",
                        display_name="negative prompt",
                        default="",
                        tooltip="What is not to be seen: empty, or the object in words.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "denoise",
                        display_name="drawn anew (0: auto)",
                        default=0.0,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        tooltip="The share of the noise schedule that is run: less keeps more of the draft. 0: 0.4 from the draft "
                        "(0.8 with learned), and all of it from noise.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "resolution",
                        display_name="work at (0: trained)",
                        default=0,
                        min=0,
                        max=8192,
                        step=8,
                        tooltip="The part around the mask is worked on at this size at least, and at half as much again at "
                        "most. 0: as the model is trained, 1024 for SDXL and FLUX, 512 for SD 1.5.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "context",
                        display_name="surroundings (× size)",
                        default=0.5,
                        min=0.0,
                        max=10.0,
                        step=0.05,
                        tooltip="How much of the surroundings the model sees: on each side this share of the object's size. "
                        "One step sees at least as much as the object's size, so that its shadow is among it.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "feather",
                        display_name="soft border (pixels)",
                        default=8,
                        min=0,
                        max=512,
                        step=1,
                        tooltip="Width of the soft border around the mask, in pixels of the picture.",
                    )
                ),
                advanced(
                    io.Combo.Input("sampler_name", options=host.SAMPLERS, default="euler", tooltip="Any of core's.")
                ),
                advanced(
                    io.Combo.Input("scheduler", options=host.SCHEDULERS, default="simple", tooltip="Any of core's.")
                ),
                advanced(
                    io.Combo.Input(
                        "start",
                        display_name="begin from",
                        options=list(methods.STARTS),
                        default="draft",
                        optional=True,
                        tooltip="What is in the hole before the first step: the noised draft, in which nothing of the object is "
                        "left; the noised picture, as the methods' authors begin; or pure noise.",
                    )
                ),
                advanced(
                    io.Boolean.Input(
                        "skip_empty",
                        display_name="empty masks may pass",
                        default=True,
                        optional=True,
                        tooltip="On: of several masks some may be empty, and their pictures come out as they are, as frames of a "
                        "film in which the object is not to be seen. Off: an empty mask is an error.",
                    )
                ),
                advanced(
                    references_input(
                        "the instruction, which is the text of background, or, where that is empty, one that says to remove "
                        "what is marked in red."
                    )
                ),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The picture without the object."),
                io.Mask.Output(
                    "MASK", display_name="mask", tooltip="What was removed: 0 or 1, the size of the picture."
                ),
                io.Image.Output(
                    "PREVIEW",
                    display_name="preview",
                    tooltip="The picture, what was removed in red, and the outline of the mask that came in in yellow.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        mask: torch.Tensor,
        *,
        method: str | dict = "auto",  # a graph over HTTP may leave it out
        seed: int,
        steps: int,
        strength: float,
        grow_percent: float,
        background: str,
        negative_text: str,
        denoise: float,
        resolution: int,
        context: float,
        feather: int,
        sampler_name: str,
        scheduler: str,
        model: io.Model.Type = None,
        vae: io.Vae.Type = None,
        clip: io.Clip.Type = None,
        start: str = "draft",
        skip_empty: bool = True,
        references: str = "none",
        **files: str,
    ) -> io.NodeOutput:
        check_limits(cls, steps=steps, strength=strength, denoise=denoise)
        picked = chosen("method", method, files)
        name, reason = picked["method"], ""
        if name == "auto":
            name, reason = methods.choose(None if model is None else host.facts_of(model), steps)
            reason = f"auto took {name}: {reason}.\n"
        if name != "draft" and (spoiled := host.spoiled_photograph(model, *image.shape[1:3])):
            reason = f"{spoiled}\n{reason}"
        wish = removal.Wish(
            say=lambda text: host.tell(cls, reason + text),
            seed=seed,
            steps=steps,
            strength=strength,
            background=background,
            negative_text=negative_text,
            start=start,
            denoise=denoise,
            resolution=resolution,
            context=context,
            feather=feather,
            sampler_name=sampler_name,
            scheduler=scheduler,
            references=references,
        )
        prepared, preview = PrepareMask.execute(mask, image, grow_percent, 0, True, 0, skip_empty).args
        if name == "draft":
            wish.say("Copies of the surroundings fill the place.")
            return io.NodeOutput(draft_fill(image, prepared, seed=seed), prepared, preview)
        removal.check_inputs(name, model, vae, clip)
        if name == "one step":
            if (file := picked.get("eraser", ON_MODEL)) != ON_MODEL:
                model = LoadOneStep.execute(model, file, clip).args[0]
            result, removed = removal.in_one_step(image, prepared, model, vae, wish)
            drawn = regions.normalize_mask(mask.to(image.device), *image.shape[:3], skip_empty=skip_empty)
            return io.NodeOutput(result, removed, masks.preview_of(image, drawn, removed))
        learned = None
        if name == "learned":
            if (file := picked.get("lora", ON_MODEL)) != ON_MODEL:
                model = host.with_lora(model, file)
            file = picked.get("removal_prompt", BY_LORA)
            learned = removal.trained_prompt(model) if file == BY_LORA else file
        result = removal.sampled(name, image, prepared, model, vae, clip, learned, wish)
        return io.NodeOutput(result, prepared, preview)


NODES = [RemoveObject]
