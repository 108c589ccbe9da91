"""The table of whole passes of real-width blocks, on a block that is not as wide."""

from __future__ import annotations

import math

import pytest
import torch


@torch.inference_mode()
def test_each_share_is_a_ratio_to_the_unpatched_pass(comfy, monkeypatch, capsys):
    pytest.importorskip("tyro")
    from unclutter.tests.nodes import tiny_families
    from unclutter.tools import bench_blocks

    narrow = ("QwenImage", dict(tiny_families.FAMILIES["Qwen-Image"].network), 32, 7)
    monkeypatch.setitem(bench_blocks.FAMILIES, "Qwen-Image", narrow)
    config = bench_blocks.Config(("Qwen-Image",), (0.1, 0.5), size=128, repeats=1, dtype="float32", markdown=True)
    (row,) = bench_blocks.bench_blocks(config)
    assert row["family"] == "Qwen-Image"
    for name in ("plain, s", "10% masked", "50% masked"):
        assert isinstance(row[name], float) and 0 < row[name] < math.inf
    assert "| family | plain, s | 10% masked |" in capsys.readouterr().out
