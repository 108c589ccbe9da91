"""A LoRA on a diffusers network: what it adds, by its formula, and that it leaves nothing behind."""

import pytest
import torch

from unclutter.adapters.families import UNET
from unclutter.adapters.lora import LoraPair
from unclutter.training.base_models.mini import load_mini
from unclutter.training.sampling.lora import put_on, take_off


@pytest.fixture
def network():
    return load_mini().network


@pytest.fixture
def pairs(network):
    """Of several ranks and alphas, on linear layers and on convolutions."""
    generator, found = torch.Generator().manual_seed(0), {}
    layers = [(name, module) for name, module in network.named_modules() if name.endswith(UNET.lora_targets)]
    for number, (name, module) in enumerate(layers):
        rank, (out, inside, *kernel) = 1 + number % 5, module.weight.shape
        down = torch.randn(rank, inside, *kernel, generator=generator) * 0.05
        up = torch.randn(out, rank, *[1] * len(kernel), generator=generator) * 0.05
        found[name] = LoraPair(down, up, 1.0 + number % 3)
    return found


@torch.no_grad()
def predict(network):
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(1, 25, 16, 16, generator=generator), torch.randn(1, 77, 64, generator=generator)
    return network(x, torch.tensor(500), text).sample


@pytest.mark.parametrize("merged", [False, True])
def test_it_adds_strength_times_alpha_over_rank_times_up_times_down(network, pairs, merged):
    before = predict(network)
    weights = {name: dict(network.named_parameters())[f"{name}.weight"] for name in pairs}
    put_on(network, pairs, 0.7, merged)
    after = predict(network)
    take_off(network)
    with torch.no_grad():
        for name, pair in pairs.items():
            update = 0.7 * pair.alpha / len(pair.down) * pair.up.flatten(1) @ pair.down.flatten(1)
            weights[name] += update.reshape(weights[name].shape)
    assert (after - before).abs().max() > 0.01
    torch.testing.assert_close(after, predict(network), atol=1e-5, rtol=0)


def test_taken_off_it_leaves_the_network_as_it_was(network, pairs):
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    modules = [(name, type(module)) for name, module in network.named_modules()]
    for _ in range(2):
        put_on(network, pairs)
        take_off(network)
    assert [(name, type(module)) for name, module in network.named_modules()] == modules
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_a_module_of_another_size_is_counted_and_nothing_is_put_on(network, pairs):
    first = next(iter(pairs))
    pairs[first] = LoraPair(torch.ones(2, 9), torch.ones(9, 2), 2.0)
    with pytest.raises(ValueError, match=f"{len(pairs) - 1} of the LoRA's {len(pairs)} modules fit .*{first} does not"):
        put_on(network, pairs)
    assert not any("lora" in name for name, _ in network.named_modules())
