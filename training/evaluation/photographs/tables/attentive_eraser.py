"""Attentive Eraser: Tables 1 and 2, and the grid of s and λ in Figure 6."""

from __future__ import annotations

from .table import POWERPAINT, SD2_INPAINTING, Base, Row, Table, powerpaint

SD21 = Base("sd21", "SD 2.1 base, 512 pixels")
OPENIMAGES = (
    "10,000 pictures of OpenImages V5's test set with their masks and classes: `unclutter data cases openimages DIR OUT "
    "-n 10000`; the paper's own choice of pictures is not released."
)
SETTINGS = {"size": 512, "square": True, "whole": True, "start": "picture", "grow": 2.0}
SIP = "start=picture,denoise=0.8,steps=40,suppression_steps=0.25"
FREEU = "The authors' scripts switch FreeU on for SD 2.1, which the paper does not name; here it is off, and their numbers hold it."
MASKS = "Their masks are blurred and cut at 0.1, about 2 pixels more on all sides at 512; here they are grown by 2 % of the object."
COLUMNS = {
    "FID": "fid",
    "LPIPS": "lpips",
    "Local FID": "local-fid",
    "CLIP consensus": "consensus",
    "CLIP score": "clip-score",
}
OURS = Row(
    "SD2.1+SIP w/ SARG", f"attentive-eraser:{SIP},strength=9", "sd21", values=(7.352, 0.3113, 5.835, 0.0734, 23.56)
)
TABLES = (
    Table(
        "attentive-eraser-1",
        "Attentive Eraser, Table 1: methods on OpenImages V5",
        OPENIMAGES,
        COLUMNS,
        (
            Row("SD2.1inp", "plain:start=noise", "sd2-inpainting", values=(3.805, 0.3012, 8.852, 0.1143, 21.89)),
            Row(
                "SD2.1inp with text",
                "plain:start=noise,strength=7.5,prompt={caption}",
                "sd2-inpainting",
                values=(4.019, 0.3083, 7.194, 0.1209, 22.27),
                note="The text is the picture's caption; the paper does not say which words it took.",
            ),
            Row(
                "PowerPaint",
                powerpaint(7.5, ",start=noise"),
                "powerpaint",
                values=(6.027, 0.2887, 10.02, 0.0984, 22.74),
            ),
            Row("Inst-Inpaint", values=(11.42, 0.4095, 43.47, 0.0913, 23.02)),
            Row("LaMa", values=(7.533, 0.2189, 6.091, None, 23.57)),
            Row(
                "SD2.1+SIP w/o SARG",
                f"plain:{SIP.rpartition(',')[0]}",
                "sd21",
                values=(5.98, 0.2998, 15.58, 0.1347, 22.05),
                note="Taken for SD 2.1 with SIP alone, the baseline of its ablation: their code turns all of it off without SARG.",
            ),
            OURS,
            Row(
                "SD2.1+DIP w/ SARG",
                "attentive-eraser:start=inversion,steps=40,suppression_steps=0.25,strength=9",
                "sd21",
                values=(7.012, 0.2995, 5.699, None, 23.43),
                note="By inversion of the picture over all steps.",
            ),
        ),
        (SD2_INPAINTING, SD21, POWERPAINT),
        settings={**SETTINGS, "seeds": (0, 1, 2)},
        cannot=(FREEU, MASKS),
    ),
    Table(
        "attentive-eraser-2",
        "Attentive Eraser, Table 2: people, and GPT-4o against LaMa",
        OPENIMAGES,
        {"User study": None, "GPT evaluation": "success"},
        (
            Row("SD2.1inp", "plain:start=noise", "sd2-inpainting", values=(10.0, None)),
            Row(
                "SD2.1inp with text",
                "plain:start=noise,strength=7.5,prompt={caption}",
                "sd2-inpainting",
                values=(15.4, None),
            ),
            Row("PowerPaint", powerpaint(7.5, ",start=noise"), "powerpaint", values=(7.6, None)),
            Row("Inst-Inpaint", values=(2.4, None)),
            Row("LaMa", values=(19.7, 25.53)),
            Row(OURS.paper, OURS.method, OURS.base, values=(44.9, 74.47)),
        ),
        (SD2_INPAINTING, SD21, POWERPAINT),
        settings=SETTINGS,
        cannot=(
            "People chose the best of six pictures, and GPT-4o the better of two; here each picture is judged alone, as success "
            "or failure: by a model here (--judge.model), by people with `unclutter rate RUN`.",
            FREEU,
            MASKS,
        ),
    ),
    Table(
        "attentive-eraser-grid",
        "Attentive Eraser, Figure 6 c: the removal scale s and the suppression λ",
        "The figure shows single pictures: any folder.",
        {"CLIP score": "clip-score", "ReMOVE": "remove"},
        tuple(
            Row(f"s {scale}, λ {factor:g}", f"attentive-eraser:{SIP},strength={scale},suppression={factor:g}", "sd21")
            for scale in (1, 3, 5, 7, 9)
            for factor in (0.1, 0.3, 0.5, 1)
        ),
        (SD21,),
        settings={**SETTINGS, "metrics": ("hole", "effect", "clip-score", "remove")},
        cannot=(
            "The figure has no numbers, and its values of s and λ cannot be read from the text: these are a choice.",
            FREEU,
        ),
    ),
)
