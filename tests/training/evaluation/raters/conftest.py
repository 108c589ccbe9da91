"""A run's folder as `unclutter evaluate photos` leaves it: three pictures by two methods."""

import hashlib
import json

import pytest
import torch

from unclutter.training.images.files import write_image

METHODS = ("ring median", "hidden-name")


@pytest.fixture
def run(tmp_path):
    generator = torch.Generator().manual_seed(0)
    folder, data, lines = tmp_path / "run", tmp_path / "data", []
    for picture in range(3):
        before = torch.rand(1, 3, 1, 1, generator=generator).expand(1, 3, 48, 64)
        mask = torch.zeros(1, 3, 48, 64)
        mask[..., 10:30, 20:40] = 1
        write_image(data / f"scene{picture}.png", before)
        write_image(data / f"scene{picture}_mask.png", mask)
        for number, method in enumerate(METHODS):
            file = folder / "pictures" / method.replace(" ", "-") / f"scene{picture}_0.png"
            write_image(file, torch.full((1, 3, 48, 64), 0.3 + 0.4 * number))
            digest = hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
            output = {"file": file.relative_to(folder).as_posix(), "digest": digest}
            line = {"picture": f"scene{picture}", "method": method, "seed": 0, "output": output, "error": None}
            lines.append(line | {"settings": {}, "inputs": {}, "metrics": {}, "weights": {}})
    lines.append(lines[0] | {"picture": "broken", "output": None, "error": "It is damaged."})
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = {"data": str(data), "layout": None, "size": None, "square": False}
    (folder / "run.json").write_text(json.dumps(told))
    return folder
