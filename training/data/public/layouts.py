"""Public sets of pictures with masks: how their files lie, their licences, and the pages where they are got."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import archives, folders
from .public_case import PublicCase


@dataclass(frozen=True)
class Layout:
    """One set, or several that lie alike.

    Attributes:
        title: what its authors call it.
        licence: as its page or its paper says.
        page: where it is got.
        seen: what the layout was checked against.
        recognise: whether a folder holds it.
        read: its cases, one after the other.
        ready: its files can be used as they lie; the others have to be written out first.
    """

    title: str
    licence: str
    page: str
    seen: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path], Iterator[PublicCase]]
    ready: bool = True


# More particular layouts come first: a folder of CORNE has all that one of its benches has.
PUBLIC: dict[str, Layout] = {
    "rord": Layout(
        "RORD",
        "by registration at AI Hub (Korea), for research",
        "https://github.com/Forty-lock/RORD",
        "the authors' loader (img/, gt/, mask/)",
        folders.is_rord,
        folders.read_rord,
    ),
    "rorem": Layout(
        "RORem",
        "Apache 2.0 for the code; the pictures keep the terms of the sets they come from",
        "https://github.com/leeruibin/RORem",
        "the authors' loader (a JSON list of source, GT, mask)",
        folders.is_rorem,
        folders.read_rorem,
    ),
    "corne": Layout(
        "CORNE",
        "as its page says; made from NHR-Edit (Apache 2.0)",
        "https://modelscope.cn/datasets/ZhouqmR/CORNE",
        "OSOR's training code (shot_list.txt, mask_list.txt, bg_list.txt and those of phase II)",
        folders.is_corne,
        folders.read_corne,
    ),
    "osor": Layout(
        "CORNE-Val, AnimeEraseBench, TextEraseBench",
        "as each page says",
        "https://huggingface.co/QinmingZhou",
        "the sets' pages (shot/, bg/, mask_sam/, mask_eff/); the folder of TextEraseBench's mask is taken to be mask/",
        folders.is_osor,
        folders.read_osor,
    ),
    "hq-sam": Layout(
        "HQSeg-44K (HQ-SAM)",
        "those of its six sets, which differ; DIS5K and others for research only",
        "https://huggingface.co/sam-hq-team/sam-hq-training/tree/main/data",
        "the authors' training code (DIS5K, cascade_psp, thin_object_detection)",
        folders.is_hq_sam,
        folders.read_hq_sam,
    ),
    "brushbench": Layout(
        "BrushBench",
        "by the form on its page",
        "https://github.com/TencentARC/BrushNet",
        "the authors' evaluation code (images/, mapping_file.json with run lengths)",
        archives.is_brushbench,
        archives.read_brushbench,
        ready=False,
    ),
    "openimages": Layout(
        "OpenImages V5 to V7",
        "annotations CC BY 4.0; pictures listed as CC BY 2.0",
        "https://storage.googleapis.com/openimages/web/download_v7.html",
        "published rows of the CSV files; the files were not downloaded",
        archives.is_openimages,
        archives.read_openimages,
        ready=False,
    ),
    "ober": Layout(
        "OBER",
        "NTU S-Lab License 1.0, not for commercial use; access on request",
        "https://huggingface.co/datasets/sczhou/OBERDataset_ObjectClear",
        "the authors' loader (parquet: input, gt, object_mask, object_effect_mask, subset, split)",
        archives.is_ober,
        archives.read_ober,
        ready=False,
    ),
}


def recognised(folder: Path) -> str | None:
    """The name of the public set that a folder holds, or None."""
    return next((name for name, layout in PUBLIC.items() if layout.recognise(folder)), None)
