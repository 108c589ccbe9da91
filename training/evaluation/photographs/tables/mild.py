"""MILD: Tables 1 to 6, as far as their data exist."""

from __future__ import annotations

from collections.abc import Mapping

from .table import POWERPAINT, ROREM, SDXL_INPAINTING, Base, Row, Table, powerpaint

MILD = Base("mild", "an output folder of `unclutter train mild paper`")
SETTINGS = {"size": 512, "square": True, "whole": True, "start": "noise", "steps": 25}
UNRELEASED = (
    "MILD's data set of 10,000 pairs and its weights are not released: pairs of groups of people can be made (`unclutter data "
    "people`), a training too (`unclutter train mild paper`), and their numbers cannot be held against the paper's."
)
WITHOUT_HINTS = "The row of MILD is its background without pose and parsing, which a folder of pictures does not hold."
COLUMNS = {
    "FID": "fid",
    "LPIPS": "lpips",
    "DINO": "dino",
    "CLIP": "clip-similarity",
    "PSNR": "psnr",
    "SSIM": "ssim",
}


def rows(values: Mapping[str, tuple[float | None, ...]]) -> tuple[Row, ...]:
    """The seven methods, with the numbers of one table."""
    known = {
        "SDXL Inpaint": ("plain", "sdxl-inpainting", None),
        "PowerPaint": (powerpaint(7.5), "powerpaint", None),
        "RORem": ("plain:start=picture,denoise=0.99", "rorem", None),
        "MILD": ("layers", "sdxl-inpainting", "mild"),
    }
    found = []
    for name, numbers in values.items():
        method, base, adapters = known.get(name, (None, None, None))
        found.append(Row(name, method, base, adapters, numbers))
    return tuple(found)


ON_MILD = {
    "SDXL Inpaint": (53.45, 0.242, 0.8398, 0.8331, 18.22, 0.6984),
    "PowerPaint": (48.04, 0.207, 0.8901, 0.8668, 20.27, 0.7569),
    "LaMa": (35.02, 0.164, 0.8919, 0.8872, 24.13, 0.7984),
    "CLIPAway": (48.86, 0.230, 0.8647, 0.8605, 19.49, 0.7046),
    "RORem": (40.41, 0.196, 0.8888, 0.8810, 22.35, 0.7521),
    "MILD": (24.20, 0.093, 0.9703, 0.9499, 26.24, 0.8341),
}
ON_OPENIMAGES = {
    "SDXL Inpaint": (26.22, 0.1346, 0.8741, 0.8751, 21.88, 0.8290),
    "PowerPaint": (10.56, 0.0488, 0.9649, 0.9678, 31.04, 0.9638),
    "Inst-Inpaint": (11.42, 0.4100, 0.7400, 0.8207, 23.75, 0.8023),
    "LaMa": (10.38, 0.0470, 0.9192, 0.9293, 31.83, 0.9461),
    "CLIPAway": (22.73, 0.1283, 0.8973, 0.8985, 23.59, 0.8276),
    "RORem": (18.23, 0.0982, 0.9095, 0.9148, 26.59, 0.8713),
    "MILD": (17.86, 0.0668, 0.9829, 0.9700, 32.14, 0.9515),
}
CROWDS = "MILD's own test pairs of groups of people, which are not released: make some with `unclutter data people`."
SAMPLE = "1,000 pictures of OpenImages V5: `unclutter data cases openimages DIR OUT -n 1000`."
BASES = (SDXL_INPAINTING, POWERPAINT, ROREM)
TABLES = (
    Table(
        "mild-1",
        "MILD, Table 1, its left half (Table 3 with SSIM is mild-3): groups of people",
        CROWDS,
        {name: metric for name, metric in COLUMNS.items() if name != "SSIM"},
        rows({name: values[:5] for name, values in ON_MILD.items()}),
        BASES,
        (MILD,),
        SETTINGS,
        (UNRELEASED, WITHOUT_HINTS, "The right half, on OpenImages, is mild-4."),
    ),
    Table(
        "mild-2",
        "MILD, Table 2: its parts",
        CROWDS,
        {name: metric for name, metric in COLUMNS.items() if name != "SSIM"},
        (
            Row("SDXL Inpaint", "plain", "sdxl-inpainting", None, ON_MILD["SDXL Inpaint"][:5]),
            Row("+ MILD backbone", "layers", "sdxl-inpainting", "backbone", (29.02, 0.142, 0.9110, 0.9025, 23.45)),
            Row("+ HMG", "layers", "sdxl-inpainting", "morphology", (26.10, 0.120, 0.9440, 0.9312, 24.67)),
            Row("+ SMA", "layers", "sdxl-inpainting", "sma", (25.10, 0.105, 0.9380, 0.9227, 25.21)),
            Row("MILD (full)", "layers", "sdxl-inpainting", "mild", ON_MILD["MILD"][:5]),
        ),
        (SDXL_INPAINTING,),
        (
            Base("backbone", "`unclutter train mild paper --no-sma --no-morphology`"),
            Base("morphology", "`unclutter train mild paper --no-sma`"),
            Base("sma", "`unclutter train mild paper --no-morphology`"),
            MILD,
        ),
        SETTINGS,
        (UNRELEASED, WITHOUT_HINTS),
    ),
    Table(
        "mild-3",
        "MILD, Table 3: groups of people, with SSIM",
        CROWDS,
        COLUMNS,
        rows(ON_MILD),
        BASES,
        (MILD,),
        SETTINGS,
        (UNRELEASED, WITHOUT_HINTS),
    ),
    Table(
        "mild-4",
        "MILD, Table 4 (and the right half of Table 1): OpenImages",
        SAMPLE,
        COLUMNS,
        rows(ON_OPENIMAGES),
        BASES,
        (MILD,),
        SETTINGS,
        (
            UNRELEASED,
            WITHOUT_HINTS,
            "The paper does not say which truth it takes on OpenImages: the picture with the object here.",
        ),
    ),
    Table(
        "mild-5",
        "MILD, Table 5: seconds of a picture at 512 × 512",
        "Any 20 pictures.",
        {"Time (s)": None},
        rows(
            {
                "SDXL Inpaint": (1.79,),
                "PowerPaint": (6.21,),
                "Inst-Inpaint": (2.21,),
                "LaMa": (1.50,),
                "CLIPAway": (4.76,),
                "RORem": (4.15,),
                "MILD": (1.91,),
            }
        ),
        BASES,
        (MILD,),
        {**SETTINGS, "metrics": ("outside",)},
        ("The paper's seconds are of an NVIDIA A800; the column *seconds* here is of your machine.", WITHOUT_HINTS),
    ),
    Table(
        "mild-6",
        "MILD, Table 6: GPT-4o and people",
        CROWDS,
        {"AI overall": "quality", "Human overall": None, "AI success": "success", "Human success": None},
        rows(
            {
                "SDXL Inpaint": (3.7, 4.2, 53.0, 50.0),
                "PowerPaint": (5.0, 5.2, 58.0, 54.0),
                "Inst-Inpaint": (4.7, 4.8, 48.0, 41.0),
                "LaMa": (6.4, 6.3, 67.0, 63.0),
                "CLIPAway": (3.9, 4.0, 52.0, 49.0),
                "RORem": (5.4, 5.4, 64.0, 61.0),
                "MILD": (8.3, 8.4, 82.0, 78.0),
            }
        ),
        BASES,
        (MILD,),
        SETTINGS,
        (UNRELEASED, WITHOUT_HINTS, "People: `unclutter rate RUN --protocol mild` on what this wrote."),
    ),
)
