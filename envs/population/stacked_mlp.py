"""Multilayer perceptrons of one depth, side by side: forward and backward passes as batched matrix products."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rlsched.envs.population.cut import aligned
from rlsched.envs.population.heads import Head
from rlsched.envs.population.layout import Layout

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU)
# Of the first two the derivative follows from the output, so the input may be overwritten.
_FORWARD = (torch.relu_, torch.tanh_, torch.ops.aten.gelu, torch.ops.aten.silu)


@dataclass(frozen=True)
class MLPShape:
    """What an `nn.Sequential` of linear layers with one activation between them looks like.

    Attributes:
        sizes: of the layers, inputs first, outputs last.
        activation: index into `ACTIVATIONS`; 0 where there is no hidden layer.
    """

    sizes: tuple[int, ...]
    activation: int

    @classmethod
    def of(cls, model: nn.Module) -> MLPShape | None:
        """The shape of `model`, or None if it is no such MLP."""
        if type(model) is not nn.Sequential or len(model) % 2 == 0:
            return None
        others = list(model)[1::2]
        linears = [layer for layer in list(model)[::2] if isinstance(layer, nn.Linear)]
        if len(linears) <= len(others) or not all(map(_computes_linear, linears)):
            return None
        if len(list(model.parameters())) != 2 * len(linears):
            return None  # some are tied
        kinds = {type(layer) for layer in others}
        exact = all(getattr(layer, "approximate", "none") == "none" for layer in others)
        if len(kinds) > 1 or not kinds <= set(ACTIVATIONS) or not exact:
            return None
        sizes = (linears[0].in_features, *(layer.out_features for layer in linears))
        return cls(sizes, ACTIVATIONS.index(kinds.pop()) if kinds else 0)


class StackedMLP:
    """R multilayer perceptrons of equal depth, each of its own widths and activation: a `Network`.

    Narrow rows are padded with zero weights. A padded unit puts out zero and gets a zero gradient under every
    activation here (all map 0 to 0), so padding needs no masks, and a row computes what it would alone.

    Args:
        models: of each row, for which `MLPShape.of` is known, of one depth; rows of equal activation side by side.
        head: of all rows' losses.
        dtype: of parameters and data.
        device: of the same.
    """

    def __init__(
        self, models: Sequence[nn.Module], head: type[Head], dtype: torch.dtype, device: torch.device
    ) -> None:
        shapes = [shape for shape in map(MLPShape.of, models) if shape is not None]
        self.shapes, self.dtype, self.device = list(shapes), dtype, device
        self.sizes = aligned(np.max([shape.sizes for shape in shapes], axis=0)).tolist()
        parameters = [shape for a, b in itertools.pairwise(self.sizes) for shape in ((a, b), (1, b))]
        self.layout = Layout(len(shapes), parameters, [True, False] * (len(parameters) // 2))
        self.parameters = self.layout.zeros(dtype, device)
        self.gradients = self.layout.zeros(dtype, device)
        views, gradients = self.layout.views(self.parameters), self.layout.views(self.gradients)
        self._layers = list(zip(views[::2], views[1::2], gradients[::2], gradients[1::2], strict=True))
        self._segments = _segments([shape.activation for shape in shapes])
        self._head: Head = head([shape.sizes[-1] for shape in shapes], self.sizes[-1], dtype, device)

    def row(self, flat: Tensor, row: int) -> list[Tensor]:
        """Weight (out, in) and bias (out,) of every layer of one row, padding cut off: views."""
        views, cut = self.layout.views(flat), []
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(self.shapes[row].sizes)):
            weight, bias = views[2 * layer], views[2 * layer + 1]
            cut += [weight[row, :inputs, :outputs].T, bias[row, 0, :outputs]]
        return cut

    def load(self, row: int, model: nn.Module) -> None:
        """Copy the weights of `model`, an MLP of the row's shape, into `row`."""
        with torch.no_grad():
            for mine, theirs in zip(self.row(self.parameters, row), model.parameters(), strict=True):
                mine.copy_(theirs)

    def pad(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features (n, D) and targets of a row, padded to the width of the stack."""
        features, targets = tensors
        features = nn.functional.pad(features.to(self.device, self.dtype), (0, self.sizes[0] - features.shape[1]))
        floating = targets.is_floating_point()
        return features, self._head.pad(targets.to(self.device, self.dtype if floating else torch.int64))

    def constants(self) -> dict[str, Tensor]:
        """See `Network`: there are none."""
        return {}

    def load_constants(self, constants: dict[str, Tensor]) -> None:
        """See `Network`."""

    def losses(self, batch: Sequence[Tensor]) -> Tensor:
        """See `Network`."""
        features, targets = batch
        return self._head(self._forward(features)[0][-1], targets)[0]

    def backward(self, batch: Sequence[Tensor], weights: Tensor) -> Tensor:
        """See `Network`."""
        features, targets = batch
        (*inputs, outputs), before = self._forward(features)
        losses, delta = self._head(outputs, targets, weights)
        for layer in reversed(range(len(self._layers))):
            weight, _, weight_gradient, bias_gradient = self._layers[layer]
            torch.bmm(inputs[layer].transpose(1, 2), delta, out=weight_gradient)
            torch.sum(delta, dim=1, keepdim=True, out=bias_gradient)
            if layer > 0:
                delta = torch.bmm(delta, weight.transpose(1, 2))
                delta = self._through_activation(delta, before[layer], inputs[layer])
        return losses

    def _forward(self, features: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The input of every layer, the outputs (R, B, C) last; and the same before their activations."""
        values, before = [features], [features]
        for layer, (weight, bias, _, _) in enumerate(self._layers):
            if layer == len(self._layers) - 1:
                values.append(torch.baddbmm(self._head.bias(bias), values[-1], weight))
            else:
                before.append(torch.baddbmm(bias, values[-1], weight))
                values.append(self._activate(before[-1]))
        return values, before

    def _activate(self, values: Tensor) -> Tensor:
        parts = [_FORWARD[kind](values[start:stop]) for start, stop, kind in self._segments]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _through_activation(self, delta: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """`delta` times the derivative of the activation that took `before` to `after`."""
        parts = []
        for start, stop, kind in self._segments:
            part, x, y = delta[start:stop], before[start:stop], after[start:stop]
            if kind == 0:
                parts.append(torch.ops.aten.threshold_backward(part, y, 0))
            elif kind == 1:
                parts.append(torch.ops.aten.tanh_backward(part, y))
            elif kind == 2:
                parts.append(torch.ops.aten.gelu_backward(part, x))
            else:
                parts.append(torch.ops.aten.silu_backward(part, x))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _computes_linear(layer: nn.Linear) -> bool:
    """Whether it has weight and bias of its own and computes what `nn.Linear` does, if it is a subclass."""
    own = {name for name, parameter in vars(layer)["_parameters"].items() if parameter is not None}
    return own == {"weight", "bias"} and type(layer).forward is nn.Linear.forward


def _segments(kinds: Sequence[int]) -> list[tuple[int, int, int]]:
    """(start, stop, kind) of the runs of equal kinds."""
    segments, start = [], 0
    for kind, group in itertools.groupby(kinds):
        stop = start + len(list(group))
        segments.append((start, stop, kind))
        start = stop
    return segments
