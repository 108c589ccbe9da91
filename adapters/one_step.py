"""One-step erasers (OSOR): a LoRA and the network's last layer, with rows for an alpha from phase 2 on.

One layout of keys, that of OSOR's release: its pickles (`sdxlinpainting_phase2.pth`) are read as they are, and ours are
the same tensors in safetensors, with a header.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from .families import FAMILIES, Family, FamilyName
from .files import (
    check_choice,
    check_numbers,
    check_whole_numbers,
    read_safetensors,
    tensors_of,
    unpickle,
    write_safetensors,
)
from .header import WithHeader
from .lora import LoraPair, make_pair
from .methods import ONE_STEP_PROMPT as PROMPT
from .methods import ONE_STEP_TIMESTEP as TIMESTEP

WRAPPERS = ("module", "_orig_mod")
"""Words that DDP and torch.compile put into the names of parameters."""
FACTORS = {".lora_A.weight": "down", ".lora_B.weight": "up", ".alpha": "alpha"}
CACHE = "fixed_prompt_embeds.pt"
"""The encoded prompt that OSOR's scripts leave beside the weights."""
PROMPT_PARTS = ("prompt_embeds", "pooled_prompt_embeds")


@dataclass(frozen=True)
class OneStep(WithHeader):
    """A one-step eraser.

    Attributes:
        backbone: name of the model family (`families.py`).
        lora: by diffusers' path of the module, e.g. `mid_block.attentions.0.proj_in`.
        terminal: weight and bias of the last layer; the rows of the alpha come last.
        metadata: the file's header.
        prompt: the encoded prompt where the file brings it: prompt_embeds [1, n, d], pooled_prompt_embeds [1, p].
    """

    backbone: FamilyName
    lora: dict[str, LoraPair]
    terminal: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    prompt: dict[str, Tensor] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        return FAMILIES[self.backbone]

    @property
    def phase(self) -> int:
        """1: erases what the mask covers. 2: predicts an alpha too."""
        family, rows = self.family, len(self.terminal["weight"])
        # Latents of another width, as the mini model's, say it in their header.
        by_rows = {family.latent_rows: 1, family.latent_rows + family.alpha_rows: 2}
        phase = by_rows.get(rows) or self.header.phase
        if phase is None:
            expected = ", ".join(
                f"{each.latent_rows} or {each.latent_rows + each.alpha_rows} ({each.title})"
                for each in FAMILIES.values()
            )
            raise ValueError(
                f"{family.last_layer} has {rows} rows, and the header does not say whether an alpha is among them: "
                f"expected {expected}, or unclutter.phase."
            )
        return phase

    @property
    def alpha_rows(self) -> int:
        """How many of the last layer's rows, at its end, are the alpha."""
        return 0 if self.phase == 1 else self.family.alpha_rows

    @property
    def corrects(self) -> bool:
        """Whether the network predicts the clean latent as a correction to the shown one, instead of the noise."""
        return self.header.corrects

    @property
    def rank(self) -> int:
        return max(pair.down.shape[0] for pair in self.lora.values())


def load(path: Path) -> OneStep:
    """Read a one-step eraser: OSOR's release, or ours.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a damaged file, a pickle of more than tensors, or tensors that are no one-step eraser; the message
            counts them.
    """
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
    else:
        tensors, metadata = tensors_of(unpickle(path), path.name), {}
    check_whole_numbers(path, metadata, {"unclutter.timestep": (1, 999), "unclutter.resolution": (64, 8192)})
    check_choice(path, metadata, "unclutter.mask_pooling", ("max", "nearest", "none"))
    check_numbers(path.name, tensors)
    prompt = {part: tensors.pop(f"prompt.{part}") for part in PROMPT_PARTS if f"prompt.{part}" in tensors}
    check_prompt(path, prompt)
    named = {plain_name(key): (key, value) for key, value in tensors.items()}
    family = next((each for each in FAMILIES.values() if f"{each.last_layer}.weight" in named), None)
    if family is None:
        what = "a LoRA without one" if any(".lora_" in key for key in tensors) else "something else"
        raise ValueError(
            f"{path.name} holds {len(tensors)} tensors and no last layer (conv_out or proj_out), so it is {what}: give a "
            "one-step eraser, OSOR's or one of `unclutter train osor`."
        )
    terminal: dict[str, Tensor] = {}
    factors: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, (key, value) in named.items():
        suffix = next((suffix for suffix in FACTORS if name.endswith(suffix)), None)
        if suffix:
            factors.setdefault(name.removesuffix(suffix), {})[FACTORS[suffix]] = value
        elif name in (f"{family.last_layer}.weight", f"{family.last_layer}.bias"):
            terminal[name.rpartition(".")[2]] = value
        else:
            unknown.append(key)
    halves = [module for module, found in factors.items() if not {"down", "up"} <= found.keys()]
    if unknown or halves or not factors or len(terminal) < 2 or len(named) < len(tensors):
        wrong = unknown[:3] or [f"half of {module}" for module in halves[:3]] or ["factors, bias or names are missing"]
        raise ValueError(
            f"{path.name}: {sum(len(found) for found in factors.values()) + len(terminal)} of {len(tensors)} tensors are "
            f"a LoRA and {family.last_layer} ({', '.join(wrong)}), expected all, two for each module: get the file again."
        )
    pairs = {module: make_pair(path.name, module, found) for module, found in factors.items()}
    one_step = OneStep(family.name, pairs, terminal, metadata, prompt or cached_prompt(path))
    check_terminal(one_step, path)
    return one_step


def save(path: Path, one_step: OneStep) -> None:
    """Write a one-step eraser as safetensors, all of it or nothing; what `metadata` does not say is OSOR's default."""
    tensors = to_release(one_step)
    tensors |= {f"prompt.{part}": value for part, value in one_step.prompt.items()}
    header = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "unclutter.kind": "one_step",
        "unclutter.method": "osor",
        "unclutter.condition_image": "full",
        "unclutter.mask_pooling": "none" if one_step.family.shows_mask_pixels else "max",
        "unclutter.prompt": PROMPT,
        "unclutter.timestep": str(TIMESTEP),
        **one_step.metadata,
        "unclutter.backbone": one_step.backbone,
        "unclutter.phase": str(one_step.phase),
        "unclutter.rank": str(one_step.rank),
    }
    write_safetensors(path, tensors, header)


def to_release(one_step: OneStep) -> dict[str, Tensor]:
    """The tensors under the release's keys, which carry no alpha: a scale other than 1 goes into lora_B."""
    prefix, tensors = one_step.family.release_prefix, {}
    for module, pair in one_step.lora.items():
        scale = pair.alpha / pair.down.shape[0]
        tensors[f"{prefix}{module}.lora_A.default.weight"] = pair.down
        tensors[f"{prefix}{module}.lora_B.default.weight"] = pair.up if scale == 1 else pair.up * scale
    layer = one_step.family.last_layer
    return tensors | {f"{prefix}{layer}.{name}": value for name, value in one_step.terminal.items()}


def plain_name(key: str) -> str:
    """`transformer.base_model.model._orig_mod.proj_out.weight` -> `proj_out.weight`; peft's `.default` goes too."""
    name = ".".join(part for part in key.split(".") if part not in WRAPPERS)
    for prefix in ("unet.", "transformer.", "base_model.model."):
        name = name.removeprefix(prefix)
    return name.replace(".lora_A.default.", ".lora_A.").replace(".lora_B.default.", ".lora_B.")


def check_terminal(one_step: OneStep, path: Path) -> None:
    weight, bias = one_step.terminal["weight"], one_step.terminal["bias"]
    if not (weight.is_floating_point() and bias.is_floating_point()):
        raise ValueError(
            f"{path.name} has {one_step.family.last_layer} of {weight.dtype}, expected floats: get it again."
        )
    if weight.ndim != one_step.family.last_layer_dimensions or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{path.name} has {one_step.family.last_layer} of {list(weight.shape)} with a bias of {list(bias.shape)}, "
            "expected one bias for each row: the file is damaged, get it again."
        )
    stated = one_step.header.prediction
    if stated not in ("noise", "correction") or (one_step.corrects and not one_step.family.takes_corrections):
        raise ValueError(
            f"{path.name} predicts {stated} on {one_step.backbone}, expected noise, or a correction on a UNet: it needs a "
            "newer version of the pack."
        )
    try:
        one_step.phase  # noqa: B018
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def cached_prompt(path: Path) -> dict[str, Tensor]:
    """OSOR's cache of the encoded prompt, where it lies beside the weights."""
    beside = path.with_name(CACHE)
    held = unpickle(beside) if beside.is_file() else None
    found = {part: held[part] for part in PROMPT_PARTS if part in held} if isinstance(held, dict) else {}
    prompt = tensors_of(found, CACHE) if found else {}
    check_prompt(beside, prompt)
    return prompt


def check_prompt(path: Path, prompt: dict[str, Tensor]) -> None:
    check_numbers(path.name, prompt)
    for part, dimensions in zip(PROMPT_PARTS, (3, 2), strict=True):
        value = prompt.get(part)
        if value is not None and (value.ndim != dimensions or len(value) != 1 or not value.is_floating_point()):
            raise ValueError(
                f"{path.name} has {part} of {list(value.shape)} {value.dtype}, expected floats [1, n, width] and [1, width]: "
                "get the file again."
            )
