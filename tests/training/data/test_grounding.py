"""The networks behind SAVP, tiny and with random weights, loaded from folders as the real ones are."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Sam2Config,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    SwinConfig,
)

from unclutter.training.data.grounding import BoxesFromFile, GroundingDINO, SegmentAnything

PICTURE = torch.rand(1, 3, 48, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(0)


def test_grounding_dino_finds_boxes_in_pixels(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "remove", "the", "ball"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    network = MMGroundingDinoForObjectDetection(
        MMGroundingDinoConfig(
            backbone_config=SwinConfig(
                image_size=64,
                embed_dim=8,
                depths=[1, 1, 1, 1],
                num_heads=[1, 1, 1, 1],
                window_size=2,
                out_indices=[2, 3, 4],
            ),
            text_config=BertConfig(
                vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
            ),
            d_model=32,
            num_queries=5,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
        )
    )
    folder = tmp_path / "detector"
    network.save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    GroundingDinoProcessor(images, BertTokenizer(str(tmp_path / "vocab.txt"))).save_pretrained(folder)
    found = GroundingDINO(str(folder), "cpu").boxes("a", PICTURE, "Remove the ball.")
    assert len(found) == 5
    for (left, top, right, bottom), score in found:
        assert 0 <= score <= 1 and left < right and top < bottom
        assert -80 < left < 80 and -48 < top < 48 and right < 160 and bottom < 96


def test_sam_gives_a_mask_for_each_box(tmp_path):
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 8,
                "embed_dim_per_stage": [8, 16, 32, 64],
                "blocks_per_stage": [1, 1, 2, 1],
                "num_attention_heads_per_stage": [1, 1, 1, 1],
                "window_size_per_stage": [4, 2, 2, 2],
                "global_attention_blocks": [3],
                "image_size": [64, 64],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    Sam2Model(config).save_pretrained(tmp_path)
    images = Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    Sam2Processor(images, target_size=64).save_pretrained(tmp_path)
    segmenter = SegmentAnything(str(tmp_path), "cpu")
    masks = segmenter.masks("a", PICTURE, [(10, 5, 40, 30), (0, 0, 80, 48)])
    assert masks.shape == (2, 48, 80) and masks.dtype == bool


@pytest.mark.parametrize("kind", ["bert", "sam_hq", "sam3"])
def test_another_network_is_no_segmenter(tmp_path, kind):
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    with pytest.raises(ValueError, match=f"kind {kind}, expected SAM 2 or SAM"):
        SegmentAnything(str(tmp_path), "cpu")


@pytest.mark.parametrize(("kind", "what"), [(GroundingDINO, "detector"), (SegmentAnything, "segmenter")])
def test_a_model_that_is_not_there_is_one_sentence(tmp_path, monkeypatch, kind, what):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=f"^The {what} nobody/none is not in the cache, and the hub cannot be reached"):
        kind("nobody/none", "cpu")
    with pytest.raises(OSError, match=f"^The {what}'s folder .* lacks files"):
        kind(str(tmp_path), "cpu")


def test_boxes_that_cannot_be_read_are_named(tmp_path):
    file = tmp_path / "boxes.jsonl"
    file.write_text('{"name": "a", "boxes": [[1, 2, 3, 4], [5, 6, 7, 8, 0.5]]}\n\n{"name": "b", "boxes": [[1, 2]]}\n')
    with pytest.raises(ValueError, match="line 3 cannot be used"):
        BoxesFromFile(file)
    file.write_text('{"name": "a", "boxes": [[1, 2, 3, 4], [5, 6, 7, 8, 0.5]]}\n')
    assert BoxesFromFile(file).boxes("a", PICTURE, "") == [((1, 2, 3, 4), 1.0), ((5, 6, 7, 8), 0.5)]
    assert BoxesFromFile(file).boxes("b", PICTURE, "") == []
