"""The networks of the tasks: against torch's own, and under the transformations that stacking needs."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from rlsched.envs.tasks.losses import cross_entropy, sequence_cross_entropy, squared_error
from rlsched.envs.tasks.models import (
    CharacterGRU,
    CharacterTransformer,
    image_cnn,
    mlp,
    signal_cnn,
    square_network,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


NETWORKS: dict[str, Any] = {
    "mlp": (lambda g: mlp([12, 16, 3], "gelu", g), (12,), squared_error),
    "square": (lambda g: square_network(12, 16, 3, g), (12,), squared_error),
    "image_cnn": (lambda g: image_cnn(4, 10, g), (1, 8, 8), cross_entropy),
    "signal_cnn": (lambda g: signal_cnn(8, 10, g), (40,), cross_entropy),
    "image_cnn, normalised": (lambda g: image_cnn(4, 10, g, normalised=True), (1, 8, 8), cross_entropy),
    "signal_cnn, normalised": (lambda g: signal_cnn(8, 10, g, normalised=True), (40,), cross_entropy),
    "gru": (lambda g: CharacterGRU(96, 8, g), 96, sequence_cross_entropy),
    "transformer": (lambda g: CharacterTransformer(96, 32, 16, 2, g), 96, sequence_cross_entropy),
    "transformer, post-norm": (
        lambda g: CharacterTransformer(96, 32, 16, 2, g, norm_first=False),
        96,
        sequence_cross_entropy,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_can_be_stacked(name):
    """Losses and gradients of a stack under vmap are those of its models, one by one."""
    make, shape, loss = NETWORKS[name]
    models = [make(generator(seed)).double() for seed in range(3)]
    if isinstance(shape, int):
        xs, ys = torch.randint(shape, (2, 3, 5, 32), generator=generator())
    else:
        xs = torch.randn(3, 5, *shape, generator=generator(), dtype=torch.float64)
        ys = models[0](xs[0]).detach().expand(3, 5, -1) if loss is squared_error else torch.randint(10, (3, 5))
    template: nn.Module = copy.deepcopy(models[0])
    stacked: dict[str, Any] = {
        key: torch.stack([dict(model.named_parameters())[key].detach() for model in models]).requires_grad_()
        for key, _ in template.named_parameters()
    }

    def losses_of_one(parameters, x, y):
        return loss(lambda inputs: torch.func.functional_call(template, parameters, (inputs,)), (x, y))

    losses = torch.vmap(losses_of_one)(stacked, xs, ys)
    losses.sum().backward()
    for row, model in enumerate(models):
        alone = loss(model, (xs[row], ys[row]))
        alone.sum().backward()
        torch.testing.assert_close(losses[row], alone, rtol=1e-10, atol=1e-10)
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(stacked[key].grad[row], parameter.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("make", "shape"), [(image_cnn, (1, 8, 8)), (signal_cnn, (40,))])
def test_the_length_of_weights_before_a_normalisation_means_nothing(make, shape):
    """Of 10 times the weights a normalised network makes the same, another does not."""
    inputs = torch.randn(5, *shape, generator=generator(), dtype=torch.float64)
    for normalised in (True, False):
        model = make(8, 10, generator(), normalised=normalised).double()
        before = model(inputs)
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
                    for parameter in layer.parameters():
                        parameter.mul_(10.0)
        assert torch.allclose(model(inputs), before, rtol=1e-3, atol=1e-3) == normalised


def test_the_gru_is_that_of_torch():
    model = CharacterGRU(20, 8, generator()).double()
    reference: Any = nn.GRU(20, 8, batch_first=True).double()
    with torch.no_grad():
        reference.weight_ih_l0.copy_(model.input.weight)
        reference.bias_ih_l0.copy_(model.input.bias)
        reference.weight_hh_l0.copy_(model.recurrent.weight)
        reference.bias_hh_l0.copy_(model.recurrent.bias)
    tokens = torch.randint(20, (4, 11), generator=generator())
    states, _ = reference(nn.functional.one_hot(tokens, 20).double())
    torch.testing.assert_close(model(tokens), model.output(states), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_transformer_is_that_of_torch(norm_first):
    model = CharacterTransformer(20, 12, 16, 2, generator(), norm_first=norm_first).double()
    layer = nn.TransformerEncoderLayer(16, 2, 64, 0.0, batch_first=True, norm_first=norm_first)
    reference = nn.TransformerEncoder(layer, 2, model.norm if norm_first else None, enable_nested_tensor=False)
    with torch.no_grad():
        layers: Any = zip(reference.layers, model.layers, strict=True)
        for theirs, mine in layers:
            theirs.linear1.load_state_dict(mine.expand.state_dict())
            theirs.linear2.load_state_dict(mine.contract.state_dict())
            theirs.self_attn.out_proj.load_state_dict(mine.mixed.state_dict())
            theirs.self_attn.in_proj_weight.copy_(mine.qkv.weight)
            theirs.self_attn.in_proj_bias.copy_(mine.qkv.bias)
    tokens = torch.randint(20, (3, 12), generator=generator())
    embedded = model.tokens[tokens] + model.positions
    causal = nn.Transformer.generate_square_subsequent_mask(12, dtype=torch.float64)
    states = reference.double()(embedded, causal, is_causal=True)
    torch.testing.assert_close(model(tokens), model.output(states), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_transformer_does_not_look_ahead(norm_first):
    model = CharacterTransformer(20, 12, 16, 2, generator(), norm_first=norm_first)
    tokens = torch.randint(20, (3, 12), generator=generator())
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 20
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


@pytest.mark.parametrize(
    ("layer", "fresh"),
    [
        (image_cnn(16, 10, generator())[2], nn.Conv2d(16, 32, 3)),
        (signal_cnn(16, 10, generator())[3], nn.Conv1d(16, 16, 3)),
        (mlp([64, 64], "relu", generator())[0], nn.Linear(64, 64)),
    ],
)
def test_initial_weights_are_spread_as_those_of_torch(layer, fresh):
    """Uniform within 1 / sqrt(inputs of a unit). `fresh` only says shapes: it draws from the global generator."""
    bound = layer.weight[0].numel() ** -0.5
    for mine, theirs in zip(layer.parameters(), fresh.parameters(), strict=True):
        assert mine.shape == theirs.shape
        assert 0.8 * bound < mine.abs().max().item() <= bound
        assert mine.std().item() == pytest.approx(bound / 3**0.5, rel=0.25)
