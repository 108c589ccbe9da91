"""EraDiff: the main table and the ablation."""

from __future__ import annotations

from .attentive_eraser import OPENIMAGES
from .table import POWERPAINT, SD2_INPAINTING, Base, Row, Table, powerpaint

ERADIFF = Base("eradiff", "an output folder of `unclutter train eradiff paper` on SD 2 inpainting")
SETTINGS = {"size": 512, "square": True, "whole": True, "start": "noise", "grow": 2.0}
NO_WEIGHTS = "EraDiff's weights and code are not released: train them here (`unclutter train eradiff paper`)."
STEPS = "Steps, guidance and the growth of the mask are not given: 50 steps, no guidance, 2 %."
TABLES = (
    Table(
        "eradiff-main",
        "EraDiff, the main table: OpenImages V5",
        OPENIMAGES,
        {"FID": "fid", "LPIPS": "lpips", "Local FID": "local-fid"},
        (
            Row("SD2-Inpaint", "plain", "sd2-inpainting", values=(3.805, 0.301, 8.852)),
            Row(
                "SD2-Inpaint with prompt",
                "plain:strength=7.5,prompt={caption}",
                "sd2-inpainting",
                values=(4.019, 0.308, 7.194),
                note="The prompt is the picture's caption; the paper does not say which words it took.",
            ),
            Row("PowerPaint", powerpaint(7.5), "powerpaint", values=(6.027, 0.289, 10.021)),
            Row("Inst-Inpaint", values=(11.423, 0.410, 43.472)),
            Row("LaMa", values=(7.533, 0.219, 6.091)),
            Row("EraDiff", "sra", "sd2-inpainting", "eradiff", (6.540, 0.192, 3.799)),
        ),
        (SD2_INPAINTING, POWERPAINT),
        (ERADIFF,),
        SETTINGS,
        (NO_WEIGHTS, STEPS),
    ),
    Table(
        "eradiff-ablation",
        "EraDiff, the ablation: CRO, SRA and the mixed pictures",
        OPENIMAGES,
        {"Local FID": "local-fid", "GPT-4o success": "success"},
        (
            Row("EraDiff", "sra", "sd2-inpainting", "eradiff", (3.799, 83.43)),
            Row("w/o CRO", "sra", "sd2-inpainting", None, (5.713, 72.96)),
            Row("w/o SRA", "plain", "sd2-inpainting", "eradiff", (4.950, 78.54)),
            Row("w/o CRO and SRA", "plain", "sd2-inpainting", None, (8.852, 27.80)),
            Row("w/o mix-up", "sra", "sd2-inpainting", "no-mixup", (None, None)),
        ),
        (SD2_INPAINTING,),
        (
            ERADIFF,
            Base("no-mixup", "`unclutter train eradiff paper --no-mixup`, which in the paper does not converge (NaN)"),
        ),
        SETTINGS,
        (NO_WEIGHTS, STEPS, "GPT-4o's prompt is not given: --judge.protocol lrnr or mild."),
    ),
)
