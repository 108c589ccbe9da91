"""OSOR: Tables 1, 3, 4, 7 and 8, and the ablation of the timestep."""

from __future__ import annotations

from .table import SDXL_INPAINTING, Base, Row, Table

FLUX_FILL = Base("flux-fill", "FLUX.1 Fill [dev], a diffusers folder")
SDXL = Base("sdxl", "SDXL base 1.0")
OSOR_SDXL = Base("osor-sdxl", "sdxlinpainting_phase2.pth of QinmingZhou/OSOR, or `unclutter train osor`")
OSOR_FLUX = Base("osor-flux", "fluxfill_phase2.pth of QinmingZhou/OSOR (non-commercial)")
SETTINGS = {"whole": True, "start": "noise", "grow": 0.0}
COLUMNS = {"FID": "fid", "CMMD": "cmmd", "LPIPS": "lpips", "PSNR": "psnr", "SSIM": "ssim", "CFD": "cfd"}
ERASER = "attentive-eraser:start=picture,denoise=0.8,steps=40,suppression_steps=0.25"
RORD = (
    "RORD-Val is one picture of each of 343 scenes of RORD with masks of its own, which are not released: `unclutter data cases "
    "rord` has RORD's masks, so that its numbers cannot be held against the paper's."
)
OTHERS = "OmniPaint, ObjectClear, OmniEraser and CLIPAway: give their pictures as --results NAME=FOLDER."
FLUX_FILL_ALONE = (
    "FLUX-Fill alone does not sample in this command, only with OSOR's eraser: give its pictures as --results."
)
LATENCY = "The paper's seconds are of an NVIDIA A100 at 1024 × 1024; the column *seconds* here is of your machine and your pictures."


def both_masks(object_values: dict, effect_values: dict) -> tuple[Row, ...]:
    """Methods under the object's mask, and under that of the object with its shadow."""
    methods = {
        "AttentiveEraser": (ERASER, "sdxl", None),
        "SDXL-INP": ("plain", "sdxl-inpainting", None),
        "OSOR(SDXL)": ("one-step", "sdxl-inpainting", "osor-sdxl"),
        "OSOR(FLUX)": ("one-step", "flux-fill", "osor-flux"),
    }
    rows = []
    for mask, values in (("object", object_values), ("effect", effect_values)):
        for name, (method, base, adapters) in methods.items():
            more = f"{method}{',' if ':' in method else ':'}mask={mask}"
            rows.append(Row(f"{name} by {mask} mask", more, base, adapters, values.get(name, ())))
    return tuple(rows)


def main_table(
    name: str, bench: str, data: str, object_values: dict, effect_values: dict, cannot: tuple[str, ...]
) -> Table:
    return Table(
        f"osor-1-{name}",
        f"OSOR, Table 1, {bench}: the object's mask, and that of the object with its effects",
        data,
        COLUMNS,
        both_masks(object_values, effect_values),
        (SDXL_INPAINTING, FLUX_FILL, SDXL),
        (OSOR_SDXL, OSOR_FLUX),
        SETTINGS,
        (OTHERS, FLUX_FILL_ALONE, LATENCY, *cannot),
    )


def bench(
    name: str, title: str, data: str, values: dict[str, tuple[float, ...]], cannot: tuple[str, ...] = ()
) -> Table:
    return Table(
        f"osor-4-{name}",
        f"OSOR, Table 4, {title}: the object's mask",
        data,
        COLUMNS,
        (
            *(Row(other, values=values[other]) for other in values if other in OUTSIDE),
            Row("AttentiveEraser", ERASER, "sdxl", None, values["AttentiveEraser"]),
            Row("SDXL-INP", "plain", "sdxl-inpainting", None, values["SDXL-INP"]),
            Row("OSOR(SDXL)", "one-step", "sdxl-inpainting", "osor-sdxl", values["OSOR(SDXL)"]),
            Row("OSOR(FLUX)", "one-step", "flux-fill", "osor-flux", values["OSOR(FLUX)"]),
        ),
        (SDXL_INPAINTING, FLUX_FILL, SDXL),
        (OSOR_SDXL, OSOR_FLUX),
        SETTINGS,
        (LATENCY, *cannot),
    )


OUTSIDE = ("OmniPaint", "ObjectClear", "FLUX-Fill", "OmniEraser", "CLIPAway")
TABLES = (
    main_table(
        "corne",
        "CORNE-Val",
        "CORNE-Val (219 pairs), QinmingZhou/CORNE-Val on the Hugging Face Hub: `unclutter data cases osor DIR OUT`.",
        {
            "AttentiveEraser": (25.4818, 0.0193, 0.0790, 25.650, 0.8636, 0.2244),
            "OSOR(SDXL)": (29.3846, 0.0249, 0.1272, 27.262, 0.8371, 0.1608),
            "OSOR(FLUX)": (12.3241, 0.0073, 0.0462, 32.031, 0.9373, 0.1538),
            "SDXL-INP": (75.1054, 0.1506, 0.2338, 16.203, 0.7149, 0.2883),
        },
        {
            "AttentiveEraser": (26.3795, 0.0176, 0.0825, 25.602, 0.8584, 0.3867),
            "OSOR(SDXL)": (29.2953, 0.0255, 0.1268, 27.422, 0.8376, 0.2300),
            "OSOR(FLUX)": (12.5203, 0.0069, 0.0460, 32.189, 0.9377, 0.2339),
            "SDXL-INP": (63.1940, 0.1357, 0.2276, 16.804, 0.7177, 0.4665),
        },
        (),
    ),
    main_table(
        "rord",
        "RORD-Val",
        "RORD, one picture of each scene: `unclutter data cases rord DIR OUT`.",
        {
            "AttentiveEraser": (36.5740, 0.1951, 0.1685, 22.798, 0.7023, 0.3608),
            "SDXL-INP": (95.2105, 0.7893, 0.3247, 17.155, 0.6466, 0.5551),
            "OSOR(SDXL)": (35.5989, 0.1854, 0.1795, 23.767, 0.6827, 0.2644),
            "OSOR(FLUX)": (27.3621, 0.0952, 0.1140, 25.599, 0.8175, 0.2465),
        },
        {
            "AttentiveEraser": (34.9941, 0.1822, 0.1688, 23.080, 0.6995, 0.3558),
            "SDXL-INP": (88.0085, 0.7111, 0.3234, 17.398, 0.6469, 0.5788),
            "OSOR(SDXL)": (35.6523, 0.1858, 0.1797, 23.826, 0.6823, 0.2624),
            "OSOR(FLUX)": (28.1271, 0.1016, 0.1154, 25.613, 0.8163, 0.2324),
        },
        (RORD,),
    ),
    main_table(
        "anime",
        "AnimeEraseBench",
        "AnimeEraseBench (157 pairs), QinmingZhou/AnimeEraseBench: `unclutter data cases osor DIR OUT`.",
        {
            "AttentiveEraser": (37.5448, 0.0341, 0.1333, 22.587, 0.7314, 0.3802),
            "SDXL-INP": (89.4030, 0.1280, 0.2754, 14.827, 0.6516, 0.4952),
            "OSOR(SDXL)": (55.7614, 0.0666, 0.2367, 23.090, 0.6857, 0.2820),
            "OSOR(FLUX)": (26.8352, 0.0165, 0.1070, 27.780, 0.8859, 0.2703),
        },
        {
            "AttentiveEraser": (37.7600, 0.0337, 0.1375, 22.649, 0.7259, 0.4625),
            "SDXL-INP": (70.5512, 0.1081, 0.2719, 14.991, 0.6516, 0.5614),
            "OSOR(SDXL)": (55.4380, 0.0658, 0.2368, 23.130, 0.6858, 0.3713),
            "OSOR(FLUX)": (26.2539, 0.0168, 0.1077, 27.871, 0.8855, 0.3505),
        },
        (),
    ),
    Table(
        "osor-timestep",
        "OSOR, Table 3, its first half: the timestep of the one step, on RORD-Val",
        "RORD, one picture of each scene: `unclutter data cases rord DIR OUT`.",
        COLUMNS,
        tuple(
            Row(f"t {timestep}", "one-step:mask=effect", "sdxl-inpainting", f"t{timestep}", values)
            for timestep, values in (
                (200, (60.1520, 0.2463, 0.1926, 22.232, 0.6718, 0.3610)),
                (400, (50.0639, 0.2143, 0.1855, 22.696, 0.6741, 0.3013)),
                (600, (55.4021, 0.2263, 0.1884, 22.563, 0.6720, 0.3418)),
                (800, (51.8961, 0.2505, 0.1924, 22.644, 0.6710, 0.3299)),
            )
        ),
        (SDXL_INPAINTING,),
        tuple(
            Base(f"t{timestep}", f"`unclutter train osor --timestep {timestep}`") for timestep in (200, 400, 600, 800)
        ),
        SETTINGS,
        (RORD, "Only the eraser at 400 is released; the others are trainings of the first phase."),
    ),
    Table(
        "osor-3",
        "OSOR, Table 3, its second half: the discriminator's targets, on RORD-Val",
        "RORD, one picture of each scene: `unclutter data cases rord DIR OUT`.",
        {"PSNR": "psnr", "SSIM": "ssim", "FID": "fid", "LPIPS": "lpips", "CFD": "cfd"},
        (
            Row(
                "Hard mask",
                "one-step:mask=effect",
                "sdxl-inpainting",
                "hard",
                (22.463, 0.6739, 56.1508, 0.2007, 0.3399),
            ),
            Row(
                "Gaussian soft",
                "one-step:mask=effect",
                "sdxl-inpainting",
                "gaussian",
                (21.992, 0.6708, 64.1290, 0.2103, 0.3430),
            ),
            Row(
                "Occupancy",
                "one-step:mask=effect",
                "sdxl-inpainting",
                "occupancy",
                (22.696, 0.6741, 50.0639, 0.1855, 0.3013),
            ),
        ),
        (SDXL_INPAINTING,),
        tuple(Base(kind, f"`unclutter train osor --guidance {kind}`") for kind in ("hard", "gaussian", "occupancy")),
        SETTINGS,
        (RORD, "The erasers of the other targets are not released: three trainings of the first phase."),
    ),
    bench(
        "text",
        "TextEraseBench",
        "TextEraseBench (185 pairs), QinmingZhou/TextEraseBench: `unclutter data cases osor DIR OUT`.",
        {
            "OmniPaint": (29.3857, 0.0348, 0.1039, 28.404, 0.8811, 0.2296),
            "ObjectClear": (29.1359, 0.0293, 0.1361, 29.689, 0.8945, 0.1957),
            "AttentiveEraser": (34.6198, 0.0397, 0.1124, 26.540, 0.7974, 0.1994),
            "FLUX-Fill": (85.1376, 0.3464, 0.1250, 22.157, 0.8781, 0.4745),
            "OmniEraser": (53.7494, 0.1129, 0.2071, 21.300, 0.7134, 0.2217),
            "SDXL-INP": (68.4836, 0.1823, 0.2383, 19.300, 0.7284, 0.3422),
            "CLIPAway": (64.7926, 0.3275, 0.2440, 23.106, 0.7018, 0.3011),
            "OSOR(SDXL)": (38.1242, 0.0418, 0.1800, 27.748, 0.7735, 0.2128),
            "OSOR(FLUX)": (19.6169, 0.0225, 0.0803, 31.997, 0.9161, 0.2066),
        },
    ),
    bench(
        "omnipaint",
        "OmniPaint-Bench",
        "OmniPaint's bench, from its authors, as a folder of pictures, masks and truths.",
        {
            "OmniPaint": (50.0921, 0.0808, 0.1522, 23.455, 0.8126, 0.2700),
            "ObjectClear": (58.3634, 0.1353, 0.2357, 23.543, 0.7991, 0.2535),
            "AttentiveEraser": (62.1880, 0.1330, 0.1732, 22.406, 0.7762, 0.3290),
            "FLUX-Fill": (124.7098, 0.3085, 0.2056, 19.460, 0.7902, 0.4750),
            "OmniEraser": (75.0069, 0.1743, 0.2502, 22.063, 0.7062, 0.3194),
            "SDXL-INP": (115.0825, 0.3088, 0.2828, 18.081, 0.7059, 0.5792),
            "CLIPAway": (117.2142, 0.5298, 0.3005, 19.434, 0.6972, 0.5457),
            "OSOR(SDXL)": (67.4797, 0.1967, 0.2648, 23.168, 0.7419, 0.2104),
            "OSOR(FLUX)": (49.1927, 0.0703, 0.1419, 24.936, 0.8330, 0.2303),
        },
    ),
    bench(
        "removal",
        "RemovalBench",
        "OmniEraser's RemovalBench, from its authors, as a folder of pictures, masks and truths.",
        {
            "OmniPaint": (41.1790, 0.0273, 0.2135, 24.599, 0.7488, 0.2180),
            "ObjectClear": (49.2744, 0.0335, 0.2871, 25.884, 0.7726, 0.1810),
            "AttentiveEraser": (80.3447, 0.1788, 0.1942, 23.787, 0.7002, 0.2094),
            "FLUX-Fill": (178.6896, 0.4454, 0.2695, 20.277, 0.7099, 0.3984),
            "OmniEraser": (65.4691, 0.3066, 0.2929, 23.030, 0.6712, 0.1835),
            "SDXL-INP": (165.4925, 0.4756, 0.3388, 16.983, 0.6251, 0.3227),
            "CLIPAway": (169.0450, 0.4072, 0.3787, 20.461, 0.6537, 0.3569),
            "OSOR(SDXL)": (63.6405, 0.0709, 0.3313, 24.676, 0.6943, 0.1585),
            "OSOR(FLUX)": (43.8899, 0.0300, 0.1972, 25.803, 0.7612, 0.1810),
        },
    ),
    Table(
        "osor-7",
        "OSOR, Table 7: what SAVP keeps of NHR-Edit's pairs",
        "NHR-Edit's shards (hf: iitolstykh/NHR-Edit): `unclutter data cases nhr-edit DIR OUT`.",
        {},
        (),
        cannot=(
            "Counts of a data set, no comparison of methods. All 680,088 samples need SAM 2.1 and MM-Grounding-DINO on a GPU.",
        ),
        elsewhere="unclutter data verify OUT --output PAIRS",
    ),
    Table(
        "osor-8",
        "OSOR, Table 8: the first and the second phase, on RORD-Val",
        "RORD, one picture of each scene: `unclutter data cases rord DIR OUT`.",
        {"PSNR": "psnr", "SSIM": "ssim", "FID": "fid", "CMMD": "cmmd", "LPIPS": "lpips", "CFD": "cfd"},
        tuple(
            Row(f"phase {phase} by {mask} mask", f"one-step:mask={mask}", "sdxl-inpainting", f"phase-{phase}", values)
            for mask, phase, values in (
                ("object", 1, (21.965, 0.6726, 59.8017, 0.2764, 0.2062, 0.3133)),
                ("object", 2, (23.767, 0.6827, 35.5989, 0.1854, 0.1795, 0.2644)),
                ("effect", 1, (22.696, 0.6741, 50.0639, 0.2143, 0.1855, 0.3013)),
                ("effect", 2, (23.826, 0.6823, 35.6523, 0.1858, 0.1797, 0.2624)),
            )
        ),
        (SDXL_INPAINTING,),
        (
            Base("phase-1", "sdxlinpainting_phase1.pth of QinmingZhou/OSOR"),
            Base("phase-2", "sdxlinpainting_phase2.pth of QinmingZhou/OSOR"),
        ),
        SETTINGS,
        (RORD,),
    ),
)
