import math

from unclutter.training.bench import SETTINGS, bench_attention, bench_guider


def test_attention_table_compares_every_method(capsys):
    rows = bench_attention(tokens=(64,), masked=(0.1, 0.6), heads=2, width=8, repeats=1, markdown=True)
    assert [row["masked"] for row in rows] == ["10%", "60%"]
    for row in rows:
        assert row["SDPA"] == 1 and {*SETTINGS, "dense mask", "plain formula"} <= set(row)
        assert all(math.isfinite(value) and value > 0 for value in row.values() if isinstance(value, float))
    assert "| N | masked |" in capsys.readouterr().out


def test_guider_table_comes_from_a_real_server(comfyui_path):
    masg, sarg = bench_guider(comfyui_path, steps=1, repeats=1)
    assert masg["step"].startswith("MASG") and sarg["step"].startswith("SARG")
    assert all(math.isfinite(row["ratio"]) for row in (masg, sarg))
