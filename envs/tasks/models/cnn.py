"""Small convolutional networks.

Plain `nn.Conv1d` and `nn.Conv2d`: under `torch.vmap` they become grouped convolutions, which on a CPU (32 rows,
batch 32, 8 x 8 images, forward and backward) took 0.16 to 0.43 ms a row where unfolding and a matrix product took
0.5 to 1.3 ms.
"""

from __future__ import annotations

import torch
from torch import nn

from rlsched.envs.tasks.models.init import linear, uniform

GROUPS = 4
"""Groups of channels that are normalised together, each on its own."""


def image_cnn(
    channels: int, num_classes: int, generator: torch.Generator, normalised: bool = False
) -> nn.Sequential:
    """Two 3 x 3 convolutions and a linear layer on images (B, 1, 8, 8); gives logits (B, num_classes).

    The second convolution has twice the `channels` and stride 2, and leaves 2 x 2 pixels. If `normalised`, group
    normalisation (Wu and He 2018, arXiv:1803.08494) follows each; `channels` must then be a multiple of `GROUPS`.
    """
    return nn.Sequential(
        _conv(nn.Conv2d, 1, channels, 3, 1, generator),
        *_norm(channels, normalised),
        nn.ReLU(),
        _conv(nn.Conv2d, channels, 2 * channels, 3, 2, generator),
        *_norm(2 * channels, normalised),
        nn.ReLU(),
        nn.Flatten(),
        linear(2 * channels * 2 * 2, num_classes, generator),
    )


def signal_cnn(
    channels: int, num_classes: int, generator: torch.Generator, normalised: bool = False
) -> nn.Sequential:
    """Three convolutions of stride 2 and a linear layer on signals (B, 40); gives logits (B, num_classes).

    If `normalised`, group normalisation follows each convolution, as in `image_cnn`.
    """
    return nn.Sequential(
        nn.Unflatten(1, (1, -1)),
        _conv(nn.Conv1d, 1, channels, 5, 2, generator),
        *_norm(channels, normalised),
        nn.ReLU(),
        _conv(nn.Conv1d, channels, channels, 3, 2, generator),
        *_norm(channels, normalised),
        nn.ReLU(),
        _conv(nn.Conv1d, channels, channels, 3, 2, generator),
        *_norm(channels, normalised),
        nn.ReLU(),
        nn.Flatten(),
        linear(channels * 3, num_classes, generator),
    )


def check_groups(channels: int, normalised: bool) -> None:
    """ValueError if the channels of a normalised network do not come in groups."""
    if normalised and channels % GROUPS:
        raise ValueError(f"channels must be a multiple of {GROUPS} in a normalised network, got {channels}.")


def _norm(channels: int, normalised: bool) -> list[nn.Module]:
    return [nn.GroupNorm(GROUPS, channels)] if normalised else []


def _conv(
    kind: type[nn.Conv1d] | type[nn.Conv2d],
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    generator: torch.Generator,
) -> nn.Module:
    layer = nn.utils.skip_init(kind, inputs, outputs, kernel, stride=stride)
    fan_in = layer.weight[0].numel()
    return uniform(layer, fan_in**-0.5, generator)
