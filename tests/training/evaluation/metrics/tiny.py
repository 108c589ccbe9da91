"""Tiny networks of random weights in the files and folders that the real ones come in."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    SamConfig,
    SamImageProcessor,
    SamModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from unclutter.training.base_models.single_file import clip_words


def clip(folder: Path, size: int = 32) -> Path:
    tower = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={**tower, "eos_token_id": 49407, "bos_token_id": 49406},
        vision_config={**tower, "image_size": size, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}).save_pretrained(folder)
    words, merges = clip_words()
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text(merges)
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


def dino(folder: Path) -> Path:
    ViTModel(
        ViTConfig(hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, image_size=64)
    ).save_pretrained(folder)
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def dinov2(folder: Path) -> Path:
    """Zoomed by 8/7 by its processor as the real one."""
    Dinov2Model(
        Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14)
    ).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


def sam(folder: Path) -> Path:
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
            "output_channels": 16,
            "window_size": 4,
            "global_attn_indexes": [1],
            "mlp_dim": 32,
            "num_pos_feats": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 8},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )
    network = SamModel(config)
    with torch.no_grad():
        # As it is made, its features vanish.
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    network.save_pretrained(folder)
    SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}, mask_size={"longest_edge": 16}
    ).save_pretrained(folder)
    return folder


def alexnet(path: Path) -> Path:
    """torchvision's file, classifier and all."""
    from torchvision.models import alexnet as network

    torch.save(network(weights=None).state_dict(), path)
    return path


def inception(path: Path) -> Path:
    """torch-fidelity's file: the network has one size."""
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    # The class loads weights as it is made: the layers are made by hand, under its names.
    network = torch.nn.Module()
    network.Conv2d_1a_3x3 = fidelity.BasicConv2d(3, 32, kernel_size=3, stride=2)
    network.Conv2d_2a_3x3 = fidelity.BasicConv2d(32, 32, kernel_size=3)
    network.Conv2d_2b_3x3 = fidelity.BasicConv2d(32, 64, kernel_size=3, padding=1)
    network.Conv2d_3b_1x1 = fidelity.BasicConv2d(64, 80, kernel_size=1)
    network.Conv2d_4a_3x3 = fidelity.BasicConv2d(80, 192, kernel_size=3)
    network.Mixed_5b = fidelity.InceptionA(192, pool_features=32)
    network.Mixed_5c = fidelity.InceptionA(256, pool_features=64)
    network.Mixed_5d = fidelity.InceptionA(288, pool_features=64)
    network.Mixed_6a = fidelity.InceptionB(288)
    network.Mixed_6b = fidelity.InceptionC(768, channels_7x7=128)
    network.Mixed_6c = fidelity.InceptionC(768, channels_7x7=160)
    network.Mixed_6d = fidelity.InceptionC(768, channels_7x7=160)
    network.Mixed_6e = fidelity.InceptionC(768, channels_7x7=192)
    network.Mixed_7a = fidelity.InceptionD(768)
    network.Mixed_7b = fidelity.InceptionE_1(1280)
    network.Mixed_7c = fidelity.InceptionE_2(2048)
    network.fc = torch.nn.Linear(2048, 1008)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return path
