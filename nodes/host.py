"""All that the pack touches of ComfyUI's internals: a guider, wrappers and patches. Nothing of ComfyUI is replaced.

Masks here have been through `normalize_mask`: float [masks, H, W] of 0 and 1, where 1 is removed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import comfy.latent_formats
import comfy.ldm.flux.model
import comfy.ldm.models.autoencoder
import comfy.ldm.modules.attention
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import folder_paths
import node_helpers
import torch
from einops import rearrange
from torch import Tensor

from ..adapters import mini
from ..kernels import attention, guidance, patches, regions

# The mini model's adapters appear in core's own loaders, after the user's files.
folder_paths.add_model_folder_path("loras", str(mini.FOLDER / "loras"))
folder_paths.add_model_folder_path("embeddings", str(mini.FOLDER / "embeddings"))

DIFFUSION_MODEL = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL


class MASGGuider(comfy.samplers.CFGGuider):
    """Mask-aware scheduled guidance (LRNR, Algorithm 1): classifier-free guidance with a scale for each latent pixel.

    `scale_at(t, steps)` is the scale in the mask, with t counting down from `steps` to 1.
    """

    def __init__(
        self,
        model: Any,
        positive: list,
        negative: list,
        mask: Tensor,
        scale_at: Callable[[float, int], float],
        background_scale: float,
    ) -> None:
        super().__init__(model)
        self.set_conds(positive, negative)
        self.set_cfg(background_scale)
        self.mask = mask
        self.scale_at = scale_at
        self.background_scale = background_scale
        self.latent_mask = functools.lru_cache(maxsize=1)(self.pool_mask)

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None = None) -> Tensor:
        """The guided prediction of the clean latent, by core's `sampling_function` but for the scale."""
        t, steps = position(timestep, model_options["transformer_options"])
        scale = self.scale_map(x, self.scale_at(t, steps))
        positive, negative = self.conds["positive"], self.conds["negative"]
        is_one = isinstance(scale, float) and math.isclose(scale, 1.0)
        if is_one and not model_options.get("disable_cfg1_optimization", False):
            negative = None
        conds = [positive, negative]
        call = {
            "conds": conds,
            "input": x,
            "sigma": timestep,
            "model": self.inner_model,
            "model_options": model_options,
        }
        if "sampler_calc_cond_batch_function" in model_options:
            predictions = model_options["sampler_calc_cond_batch_function"](call)
        else:
            predictions = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
        for hook in model_options.get("sampler_pre_cfg_function", []):
            predictions = hook({**call, "conds_out": predictions, "cond_scale": scale, "timestep": timestep})
        return comfy.samplers.cfg_function(
            self.inner_model, *predictions, scale, x, timestep, model_options, cond=positive, uncond=negative
        )

    def scale_map(self, x: Tensor, scale: float) -> Tensor | float:
        """The scale for each pixel of the latents x [B,C,h,w]: [B or 1,1,h,w], or one number where all are the same."""
        if math.isclose(scale, self.background_scale):
            return self.background_scale
        mask = self.latent_mask(x.shape, x.device, x.dtype)
        return scale if mask is None else guidance.masg_map(mask, scale, self.background_scale)

    def pool_mask(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """The mask for latents of this shape; None when it covers them all."""
        if len(shape) != 4:
            raise ValueError(
                f"MASG Guider guides pictures, latents [batch,channels,height,width]; these are {list(shape)}."
            )
        mask = regions.latent_mask(for_batch(self.mask, shape[0]), *shape[-2:], pooling="max")
        return None if mask.all() else mask.to(device, dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class RegionPatch:
    """Runs a model's self-attention by region: a wrapper around its forward pass that patches this one call.

    parts           which self-attentions, of "input", "middle" and "output". FLUX has no such parts: its double-stream
                    blocks count as input, and the single-stream blocks after them as the rest
    start, end      the sigmas between which it works
    settings_at     (step, steps) -> RegionSettings, with step counting up from 0; between steps it is fractional

    Patches and wrappers of other packs stay in place. Where another pack has taken over a UNet's attention block by
    itself (Perturbed-Attention Guidance in its own pass), that block is left to it.
    """

    mask: Tensor
    parts: frozenset[str]
    start: float
    end: float
    settings_at: Callable[[float, int], attention.RegionSettings]
    cache: dict = dataclasses.field(default_factory=dict, repr=False)

    def is_active(self, sigma: Tensor) -> bool:
        return self.end <= float(sigma.max()) <= self.start

    def __call__(self, executor: Any, x: Tensor, timestep: Tensor, context: Tensor, *rest: Any, **more: Any) -> Tensor:
        options = rest[-1]
        if self.is_active(options["sigmas"]):
            t, steps = position(options["sigmas"], options)
            settings = self.settings_at(steps - t, steps)
            for_batch(self.mask, x.shape[0] // len(options["cond_or_uncond"]))
            patch = self.patch_flux if is_flux(executor.class_obj) else self.patch_unet
            options = patch(executor.class_obj, x, context, settings, options)
        return executor(x, timestep, context, *rest[:-1], options, **more)

    def patch_unet(
        self, unet: Any, x: Tensor, context: Tensor, settings: attention.RegionSettings, options: dict
    ) -> dict:
        """Drops the object's keys before the projections where all queries of all samples drop the same ones.

        That takes no replace slot and leaves the attention to the model and to other packs; else a slot is needed.
        """
        taken = options.get("patches_replace", {}).get("attn1", {})

        def drop_keys(n: Tensor, context: Tensor, value: Tensor, extra: dict) -> tuple[Tensor, Tensor, Tensor]:
            block = extra["block"]
            if block[0] not in self.parts or block in taken or (*block, extra["block_index"]) in taken:
                return n, context, value
            height, width = extra["activations_shape"][-2:]
            objects = self.objects(height, width, n.device)
            check_tokens(context, objects)
            keep = self.kept_keys(height, width, n.device)
            if keep is None:
                return n, context, value
            if settings.temperature[1] != 1:
                check_tokens(n, objects)
                # The projection to queries has no bias: a scaled input is a scaled query.
                n = torch.where(objects[..., None], n * settings.temperature[1], n)
            kept = context[:, keep]
            return n, kept, kept if value is context else value[:, keep]

        def attend(q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
            height, width = extra["activations_shape"][-2:]
            objects = self.objects(height, width, q.device)
            check_tokens(k, objects)
            heads = extra["n_heads"]
            q, k, v = (rearrange(tokens, "b n (h d) -> b h n d", h=heads) for tokens in (q, k, v))
            core = functools.partial(
                comfy.ldm.modules.attention.optimized_attention,
                heads=heads,
                attn_precision=extra["attn_precision"],
                skip_reshape=True,
                skip_output_reshape=True,
                transformer_options=extra,
            )
            out = attention.region_attention(q, k, v, for_rows(objects, q.shape[0]), settings, core)
            return rearrange(out, "b h n d -> b n (h d)")

        if len(self.mask) == 1 and settings.object_logit == (-math.inf, -math.inf) and settings.temperature[0] == 1:
            patches = options.get("patches", {})
            patches = {**patches, "attn1_patch": [*patches.get("attn1_patch", []), drop_keys]}
            return {**options, "patches": patches}
        blocks = [("input", i) for i in range(len(unet.input_blocks))] + [("middle", 0)]
        blocks += [("output", i) for i in range(len(unet.output_blocks))]
        ours = {block: attend for block in blocks if block[0] in self.parts}
        return {**options, "patches_replace": {**options.get("patches_replace", {}), "attn1": {**ours, **taken}}}

    def patch_flux(
        self, flux: Any, x: Tensor, context: Tensor, settings: attention.RegionSettings, options: dict
    ) -> dict:
        """Works on queries and keys after their rotation, inside each block. Tokens of the text, and of reference
        pictures, are background."""
        patch = flux.patch_size
        text, height, width = context.shape[1], math.ceil(x.shape[-2] / patch), math.ceil(x.shape[-1] / patch)
        picture = for_rows(self.objects(height, width, x.device), x.shape[0])

        def attend(
            outer: Callable | None,
            core: Callable,
            q: Tensor,
            k: Tensor,
            v: Tensor,
            heads: int,
            mask: Tensor | None = None,
            skip_output_reshape: bool = False,
            **more: Any,
        ) -> Tensor:
            objects = torch.nn.functional.pad(picture, (text, q.shape[2] - text - picture.shape[1]))
            call = functools.partial(outer, core) if outer else core
            call = functools.partial(call, heads=heads, skip_output_reshape=True, **more)
            if mask is None:
                out = attention.region_attention(q, k, v, objects, settings, call)
            else:
                out = masked_region_attention(q, k, v, mask, objects, settings, call)
            return out if skip_output_reshape else rearrange(out, "b h n d -> b n (h d)")

        def wrap(inner: Callable | None) -> Callable:
            def block(args: dict, extra: dict) -> dict:
                block_options = args["transformer_options"]
                outer = block_options.get("optimized_attention_override")
                block_options = {**block_options, "optimized_attention_override": functools.partial(attend, outer)}
                args = {**args, "transformer_options": block_options}
                return inner(args, extra) if inner else extra["original_block"](args)

            return block

        blocks = [("single_block", i) for i in range(len(flux.single_blocks))]
        if "input" in self.parts:
            blocks += [("double_block", i) for i in range(len(flux.double_blocks))]
        replace = options.get("patches_replace", {})
        taken = replace.get("dit", {})
        return {**options, "patches_replace": {**replace, "dit": {**taken, **{b: wrap(taken.get(b)) for b in blocks}}}}

    def objects(self, height: int, width: int, device: torch.device) -> Tensor:
        """The tokens of the object in a layer of this grid, bool [masks, height*width]."""
        key = ("objects", height, width, device)
        if key not in self.cache:
            self.cache[key] = regions.object_tokens(self.mask, height, width).to(device)
        return self.cache[key]

    def kept_keys(self, height: int, width: int, device: torch.device) -> Tensor | None:
        """The tokens outside of the (only) mask, [kept]; None where there are none. Kept here, as finding them waits
        for the device."""
        key = ("kept", height, width, device)
        if key not in self.cache:
            keys = attention.background_keys(self.objects(height, width, device))
            self.cache[key] = None if keys is None else keys[0]
        return self.cache[key]


def with_region_attention(model: Any, patch: RegionPatch, name: str) -> Any:
    """A clone of the model whose every pass runs under `patch`."""
    model = claim_attention(model, name)
    comfy.patcher_extension.add_wrapper_with_key(
        DIFFUSION_MODEL, "unclutter", patch, model.model_options, is_model_options=True
    )
    return model


def with_removal_guidance(model: Any, patch: RegionPatch, scale: float, name: str) -> Any:
    """A clone of the model with self-attention redirection guidance (SARG, Attentive Eraser): a second conditioned pass
    under `patch`, whose difference to the plain one is added `scale` times on top of any CFG."""
    model = claim_attention(model, name)

    def guide(args: dict) -> Tensor:
        if not patch.is_active(args["sigma"]):
            return args["denoised"]
        comfy.model_management.throw_exception_if_processing_interrupted()
        options = comfy.patcher_extension.copy_nested_dicts(args["model_options"])
        comfy.patcher_extension.add_wrapper_with_key(
            DIFFUSION_MODEL, "unclutter", patch, options, is_model_options=True
        )
        (erased,) = comfy.samplers.calc_cond_batch(args["model"], [args["cond"]], args["input"], args["sigma"], options)
        plain = args["cond_denoised"]
        return guidance.sarg(plain, erased, scale) + (args["denoised"] - plain)

    model.set_model_sampler_post_cfg_function(guide)
    return model


def claim_attention(model: Any, name: str) -> Any:
    """A clone marked as patched by the node `name`; a model no such node can work on is a ValueError."""
    network = model.model.diffusion_model
    if not (is_flux(network) or is_unet(network)) or isinstance(model.model, comfy.model_base.SVD_img2vid):
        raise ValueError(
            f"{name} cannot patch a model of the family {type(model.model).__name__}: "
            "load a SD 1.5, SD 2, SDXL or FLUX.1 checkpoint (base or inpainting)."
        )
    if before := model.model_options.get("unclutter_attention"):
        raise ValueError(
            f"{name} came after {before} on the same model, and both decide what the self-attention sees: "
            "keep one of the two nodes."
        )
    model = model.clone()
    model.model_options["unclutter_attention"] = name
    return model


def is_unet(network: Any) -> bool:
    return isinstance(network, comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel)


def is_flux(network: Any) -> bool:
    # FLUX.2 shares the class, with one modulation for all blocks; it is untried.
    return type(network) is comfy.ldm.flux.model.Flux and not network.params.global_modulation


def sigma_range(model: Any, start_percent: float, end_percent: float) -> tuple[float, float]:
    """The sigmas at which core's nodes start and stop for these shares (0..1) of the noise schedule."""
    if not 0 <= start_percent <= end_percent <= 1:
        raise ValueError(
            f"start_percent is {start_percent} and end_percent is {end_percent}: both lie in 0..1, the start first."
        )
    sampling = model.get_model_object("model_sampling")
    return float(sampling.percent_to_sigma(start_percent)), float(sampling.percent_to_sigma(end_percent))


def position(sigma: Tensor, transformer_options: dict) -> tuple[float, int]:
    """Where a run is: t, counting down from `steps` to 1 and fractional between steps, and the number of steps.

    It goes by the sigma, not by a count of calls: Heun, DPM++ SDE and others call the model several times a step.
    """
    sigmas = transformer_options["sample_sigmas"].tolist()
    steps = len(sigmas) - 1
    return guidance.schedule_position(float(sigma.max()), sigmas, steps), steps


def set_condition_image(conditioning: list, latent: Tensor, mask: Tensor) -> list:
    """A copy of the conditioning that shows an inpainting model this latent [B,C,h,w] and mask [B,1,H,W]. Models without
    channels for them take no notice."""
    return node_helpers.conditioning_set_values(conditioning, {"concat_latent_image": latent, "concat_mask": mask})


def normalize_mask(mask: Tensor) -> Tensor:
    """The pack's one normalisation, at the mask's own size: float [masks, H, W] of 0 and 1."""
    return regions.normalize_mask(mask, 1 if mask.ndim == 2 else mask.shape[0], *mask.shape[-2:])


def check_number(name: str, value: float, low: float, high: float) -> None:
    """ComfyUI checks what is typed into a widget, but not what comes through a link."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}: it must lie between {low} and {high}.")


def for_batch(mask: Tensor, batch: int) -> Tensor:
    """The mask itself, if it has one sample or one for each of the batch."""
    if mask.shape[0] not in (1, batch):
        raise ValueError(f"{mask.shape[0]} masks came for {batch} pictures: give one mask for all, or one for each.")
    return mask


def for_rows(objects: Tensor, rows: int) -> Tensor:
    """Repeats [masks, tokens] for the rows of a call, in which the samples come once for each conditioning."""
    return objects.repeat(rows // objects.shape[0], 1)


def check_tokens(tokens: Tensor, objects: Tensor) -> None:
    if tokens.shape[1] != objects.shape[1]:
        raise ValueError(
            f"A layer has {tokens.shape[1]} tokens where its grid has {objects.shape[1]}: another node merged or tiled "
            "them (ToMe, HyperTile). Remove it, or move it after this one."
        )


def masked_region_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    objects: Tensor,
    settings: attention.RegionSettings,
    call: Callable[..., Tensor],
) -> Tensor:
    """Region attention for the rare call that brings an N x N mask of its own (Redux on FLUX): joined with it."""
    hides = torch.tensor([logit == -math.inf for logit in settings.object_logit], device=q.device)
    blocked = hides[objects.long()][:, None, :, None] & objects[:, None, None, :]
    temperature = q.new_tensor(settings.temperature)[objects.long()][:, None, :, None]
    while mask.ndim < 4:
        mask = mask.unsqueeze(mask.ndim - 2)
    mask = mask & ~blocked if mask.dtype == torch.bool else mask.masked_fill(blocked, torch.finfo(mask.dtype).min)
    return call(q * temperature, k, v, mask=mask)


def embedding_files() -> list[str]:
    """The .safetensors files in models/embeddings, those that come with the pack among them."""
    return [name for name in folder_paths.get_filename_list("embeddings") if name.endswith(".safetensors")]


def embedding_path(name: str) -> str:
    return folder_paths.get_full_path_or_raise("embeddings", name)


def encode_with_vectors(clip: Any, vectors: dict[str, Tensor], before: str, after: str) -> list:
    """The conditioning of a text with learned vectors [n, d], by encoder (clip_l, ...), between two parts of it."""
    tokens = {}
    for name in clip.tokenize(""):
        tokenizer = getattr(clip.tokenizer, f"clip_{name}", None)
        if tokenizer is None:
            raise ValueError(f"This text encoder has a part {name}; removal prompts are for SD 1.5, SD 2 and SDXL.")
        learned = vectors.get(tokenizer.embedding_key)
        if vectors and learned is None:
            raise ValueError(
                f"The prompt has vectors for {', '.join(vectors)} and this text encoder asks for "
                f"{tokenizer.embedding_key}: the prompt was made for another model family, load one made for this one."
            )
        if learned is not None and learned.shape[1] != tokenizer.embedding_size:
            raise ValueError(
                f"The prompt's vectors for {tokenizer.embedding_key} are {learned.shape[1]} wide and this text encoder's "
                f"{tokenizer.embedding_size}: the prompt was made for another model, load one made for this one."
            )
        words = [tokenizer.tokenizer(text)["input_ids"][1:-1] for text in (before, after)]
        inner = [*words[0], *([] if learned is None else learned.float()), *words[1]]
        room = tokenizer.max_length - 2
        if len(inner) > room:
            raise ValueError(f"The prompt takes {len(inner)} tokens, expected at most {room}: leave words out.")
        row = [tokenizer.start_token, *inner, tokenizer.end_token]
        row += [tokenizer.pad_token] * (tokenizer.max_length - len(row))
        tokens[name] = [[(token, 1.0) for token in row]]
    return clip.encode_from_tokens_scheduled(tokens)


def load_mini(files: mini.Mini) -> tuple[Any, Any, Any]:
    """The mini model as ComfyUI's MODEL, CLIP and VAE, in fp32, without an entry in ComfyUI's model registry."""
    vae, latent_format = mini_vae(files.weights["vae"], files.configs["vae"])
    return mini_model(files, latent_format), mini_clip(files), vae


def mini_model(files: mini.Mini, latent_format: comfy.latent_formats.LatentFormat) -> Any:
    config = files.configs["unet"]
    channels, depth = config["block_out_channels"], list(config["transformer_layers_per_block"])
    family = comfy.supported_models_base.BASE(
        {
            "image_size": config["sample_size"],
            "in_channels": config["in_channels"],
            "out_channels": config["out_channels"],
            "model_channels": channels[0],
            "channel_mult": [width // channels[0] for width in channels],
            "num_res_blocks": [1] * len(channels),
            "transformer_depth": depth,
            "transformer_depth_output": [level for level in depth for _ in range(2)],
            "transformer_depth_middle": depth[-1],
            "context_dim": config["cross_attention_dim"],
            "use_spatial_transformer": True,
            "use_linear_in_transformer": True,
            "legacy": False,
        }
    )
    family.unet_config |= {"num_heads": -1, "num_head_channels": channels[0] // config["attention_head_dim"][0]}
    family.latent_format = latent_format
    family.set_inference_dtype(torch.float32, None)
    model = family.get_model({}, device="cpu")
    names = comfy.utils.unet_to_diffusers(family.unet_config)
    model.diffusion_model.load_state_dict({names[key]: value for key, value in files.weights["unet"].items()})
    devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(model, *devices)


def mini_vae(weights: dict[str, Tensor], config: dict) -> tuple[Any, comfy.latent_formats.LatentFormat]:
    """The VAE and the format of its latents."""
    latent_format = comfy.latent_formats.LatentFormat()
    if config["class"] == "AutoencoderKL":
        widths = config["block_out_channels"]
        structure = vae_structure(widths[0], [width // widths[0] for width in widths], config["latent_channels"])
        latent_format.scale_factor = config["scaling_factor"]
        return comfy.sd.VAE(sd=dict(weights), config=structure, dtype=torch.float32), latent_format
    autoencoder = patches.PatchAutoencoder(config["channels"], config["patch"])
    autoencoder.load_state_dict(weights)
    # ComfyUI's VAE has no place for a network of another kind: build the smallest it has, then give it ours.
    structure = vae_structure(32, [1], 4)
    placeholder = comfy.ldm.models.autoencoder.AutoencoderKL(**structure["params"])
    vae = comfy.sd.VAE(sd=placeholder.state_dict(), config=structure, dtype=torch.float32)
    vae.first_stage_model = autoencoder
    vae.patcher = type(vae.patcher)(autoencoder, load_device=vae.device, offload_device=vae.patcher.offload_device)
    vae.size = None
    vae.latent_channels = latent_format.latent_channels = config["channels"]
    vae.downscale_ratio = vae.upscale_ratio = latent_format.spacial_downscale_ratio = config["patch"]
    latent_format.latent_rgb_factors = autoencoder.synthesis.mean(dim=(2, 3)).tolist()
    latent_format.latent_rgb_factors_bias = autoencoder.mean.tolist()
    return vae, latent_format


def vae_structure(width: int, multiples: list[int], latent_channels: int) -> dict:
    """The config of a KL autoencoder with one residual block a level, as `comfy.sd.VAE` takes it."""
    network = {"ch": width, "ch_mult": multiples, "z_channels": latent_channels, "num_res_blocks": 1}
    shape = {"double_z": True, "resolution": 256, "in_channels": 3, "out_ch": 3, "attn_resolutions": [], "dropout": 0.0}
    return {"params": {"ddconfig": {**network, **shape}, "embed_dim": latent_channels}}


def mini_clip(files: mini.Mini) -> Any:
    config = files.configs["text_encoder"]
    tokens = {"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": config["pad_token_id"]}
    encoder = functools.partial(
        MiniTextEncoder, textmodel_json_config=config, special_tokens=tokens, return_projected_pooled=False
    )
    tokenizer = functools.partial(
        comfy.sd1_clip.SDTokenizer, tokenizer_path=str(files.tokenizer), embedding_size=config["hidden_size"]
    )
    target = comfy.supported_models_base.ClipTarget(
        functools.partial(comfy.sd1_clip.SD1Tokenizer, tokenizer=tokenizer),
        functools.partial(comfy.sd1_clip.SD1ClipModel, clip_model=encoder),
    )
    weights = dict(files.weights["text_encoder"])
    table = "text_model.embeddings.token_embedding.weight"
    # ComfyUI's CLIP has a table of 49,408 tokens; ours fills its head.
    weights[table] = torch.nn.functional.pad(weights[table], (0, 0, 0, 49408 - len(weights[table])))
    weights["text_projection.weight"] = torch.eye(config["hidden_size"])
    return comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        state_dict=[weights],
        model_options={"dtype": torch.float32},
    )


class MiniTextEncoder(comfy.sd1_clip.SDClipModel):
    """ComfyUI's CLIP text model, whose config ComfyUI updates in place: it gets a copy."""

    def __init__(self, *, textmodel_json_config: dict, **more: Any) -> None:
        super().__init__(textmodel_json_config=dict(textmodel_json_config), **more)
