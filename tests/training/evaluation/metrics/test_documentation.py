"""docs/metrics.md says of every metric and network what the code says."""

from pathlib import Path

from unclutter.training.evaluation.metrics.facts import METRICS
from unclutter.training.evaluation.metrics.networks import NETWORKS

TEXT = (Path(__file__).resolve().parents[4] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_every_metric_has_its_row():
    for facts in METRICS.values():
        through = ", ".join(f"`{name}`" for name in facts.networks) or ("a judge" if facts.judged else "–")
        (row,) = [
            line for line in TEXT.splitlines() if line.startswith(f"| `{facts.name}` |") and facts.rewards in line
        ]
        assert facts.label in row and facts.bias in row and row.endswith(f"| {through} |")
        assert ("↑" if facts.better == "higher" else "↓") in row


def test_every_network_has_its_row():
    for facts in NETWORKS.values():
        (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{facts.name}` |") and facts.source in line]
        assert facts.title in row and facts.licence in row
