import pytest
import torch

from unclutter.training.base_models.mini import load_mini
from unclutter.training.base_models.text import REMOVAL, initial_vectors, removal_prompt

SIZE = (64, 64)


@pytest.fixture
def texts():
    return load_mini().texts


def test_vectors_of_a_word_are_that_word(texts):
    (encoder,) = texts.encoders
    expected = texts.encode(["red remove disc"], SIZE).context
    texts.removal = {"clip_l": initial_vectors(encoder, 1)}
    torch.testing.assert_close(texts.encode([f"red {REMOVAL} disc"], SIZE).context, expected)
    texts.removal = {"clip_l": initial_vectors(encoder, 2)}
    assert not torch.allclose(texts.encode([f"red {REMOVAL} disc"], SIZE).context, expected, atol=1e-3)


def test_learning_a_prompt_leaves_the_vocabulary_as_it_was(texts):
    (encoder,) = texts.encoders
    before = {key: value.clone() for key, value in encoder.module.state_dict().items()}
    vectors = torch.nn.Parameter(initial_vectors(encoder, 3))
    texts.removal = {"clip_l": vectors}
    optimizer = torch.optim.AdamW([vectors], lr=0.1)
    context = texts.encode([f"{REMOVAL} 8K", "", f"red disc {REMOVAL}"], SIZE).context
    context.square().mean().backward()
    assert (vectors.grad.abs().sum(dim=1) > 0).all()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in encoder.module.state_dict().items())
    # A text without the prompt does not know of it.
    texts.removal = {}
    torch.testing.assert_close(texts.encode([""], SIZE).context[0], context[1])


def test_a_text_is_encoded_once_for_sampling_and_training_and_alike_in_any_batch(texts):
    (encoder,) = texts.encoders
    calls = []
    encoder.module.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        sampled = texts.encode(["red disc"], SIZE).context
    trained = texts.encode(["", "red disc", ""], SIZE).context
    assert torch.equal(trained[1], sampled[0]) and torch.equal(trained[0], trained[2])
    assert not torch.allclose(trained[0], trained[1], atol=1e-3) and len(calls) == 2
    weight = torch.ones((), requires_grad=True)
    (weight * trained).sum().backward()  # what was made for sampling alone would refuse
    for number in range(200):
        texts.encode([str(number)], SIZE)
    assert torch.equal(texts.encode(["red disc"], SIZE).context[0], sampled[0])


def test_a_long_text_is_cut_and_still_ends(texts):
    texts.removal = {"clip_l": torch.randn(70, 64)}
    context = texts.encode([f"{'red ' * 30}{REMOVAL}"], SIZE).context
    assert context.shape[1] == 77 and context.isfinite().all()


def test_without_a_loaded_prompt_it_says_so(texts):
    with pytest.raises(ValueError, match="no removal prompt is loaded for clip_l"):
        texts.encode([REMOVAL], SIZE)


def test_the_prompt_is_written_as_the_paper_uses_it():
    assert removal_prompt().startswith(f"{REMOVAL} high-quality, best-texture, ultra-detailed, Full-HD, HDR")
    assert removal_prompt(["8K", "nikon"], prompt_first=False) == f"8K, nikon {REMOVAL}"
    assert removal_prompt([]) == REMOVAL
