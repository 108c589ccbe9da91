"""The workflows' example pictures, where core's Load Image finds them without a copy in the user's input folder."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths
from PIL import Image, ImageChops

PHOTOGRAPHS = Path(__file__).parents[2] / "photographs"


def offer_example_pictures() -> None:
    """Puts the workflows' pictures into ComfyUI's temporary folder, where Load Image takes them as "NAME.png [temp]".

    What is to be removed is transparent in them, as the mask editor saves it. ComfyUI empties that folder whenever it
    starts, before it loads the packs, and when it stops. A folder that cannot be written costs the pictures and not the
    pack: it is logged, and Load Image then says which file is missing.
    """
    temporary = Path(folder_paths.get_temp_directory())
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        for file in PHOTOGRAPHS.glob("*.jpg"):
            with Image.open(file) as photo:
                masked = photo.convert("RGB")
            with Image.open(file.with_name(f"{file.stem}_mask.png")) as mask:
                masked.putalpha(ImageChops.invert(mask.convert("L")))
            # With the camera's colour profile, the page would draw other colours than ComfyUI computes with.
            masked.save(temporary / f"unclutter_{file.stem}.png", compress_level=1, icc_profile=None)
    except OSError as error:
        logging.getLogger("unclutter").warning(
            "Unclutter could not put its example pictures into %s: %s", temporary, error
        )
