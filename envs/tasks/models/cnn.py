"""Small convolutional networks.

Plain `nn.Conv1d` and `nn.Conv2d`: under `torch.vmap` they become grouped convolutions, which on a CPU (32 rows,
batch 32, 8 x 8 images, forward and backward) took 0.16 to 0.43 ms a row where unfolding and a matrix product took
0.5 to 1.3 ms.
"""

from __future__ import annotations

import torch
from torch import nn

from rlsched.envs.tasks.models.init import linear, uniform


def image_cnn(channels: int, num_classes: int, generator: torch.Generator) -> nn.Sequential:
    """Two 3 x 3 convolutions and a linear layer on images (B, 1, 8, 8); gives logits (B, num_classes).

    The second convolution has twice the `channels` and stride 2, and leaves 2 x 2 pixels.
    """
    return nn.Sequential(
        _conv(nn.Conv2d, 1, channels, 3, 1, generator),
        nn.ReLU(),
        _conv(nn.Conv2d, channels, 2 * channels, 3, 2, generator),
        nn.ReLU(),
        nn.Flatten(),
        linear(2 * channels * 2 * 2, num_classes, generator),
    )


def signal_cnn(channels: int, num_classes: int, generator: torch.Generator) -> nn.Sequential:
    """Three convolutions of stride 2 and a linear layer on signals (B, 40); gives logits (B, num_classes)."""
    return nn.Sequential(
        nn.Unflatten(1, (1, -1)),
        _conv(nn.Conv1d, 1, channels, 5, 2, generator),
        nn.ReLU(),
        _conv(nn.Conv1d, channels, channels, 3, 2, generator),
        nn.ReLU(),
        _conv(nn.Conv1d, channels, channels, 3, 2, generator),
        nn.ReLU(),
        nn.Flatten(),
        linear(channels * 3, num_classes, generator),
    )


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
