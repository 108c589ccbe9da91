"""Files of tensors: equal contents give equal bytes."""

import random

import torch

from unclutter.adapters.files import read_safetensors, write_safetensors


def test_equal_tensors_and_headers_give_equal_bytes_in_whatever_order_they_came(tmp_path):
    tensors = {f"layer.{number}.weight": torch.full((number + 1, 2), float(number)) for number in range(20)}
    header = {f"unclutter.key{number}": f"value {number} ü" for number in range(20)}
    shuffle, written = random.Random(0), set()
    for number in range(8):
        names, keys = list(tensors), list(header)
        shuffle.shuffle(names)
        shuffle.shuffle(keys)
        path = tmp_path / f"{number}.safetensors"
        write_safetensors(path, {name: tensors[name] for name in names}, {key: header[key] for key in keys})
        written.add(path.read_bytes())
    assert len(written) == 1
    read, told = read_safetensors(path)
    assert told == header and all(torch.equal(value, tensors[name]) for name, value in read.items())
