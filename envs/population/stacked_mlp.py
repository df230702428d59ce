"""Multilayer perceptrons of one depth, side by side: forward and backward passes as batched matrix products."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.GELU)


@dataclass(frozen=True)
class MLPShape:
    """What an `nn.Sequential` of linear layers with one activation between them looks like.

    Attributes:
        sizes: of the layers, inputs first, classes last.
        activation: index into `ACTIVATIONS`; 0 where there is no hidden layer.
    """

    sizes: tuple[int, ...]
    activation: int

    @classmethod
    def of(cls, model: nn.Module) -> MLPShape:
        """The shape of `model`; ValueError, naming the layer and the remedy, if it is no such MLP."""
        remedy = "use TorchRun for it"
        if not isinstance(model, nn.Sequential) or len(model) % 2 == 0:
            raise ValueError(f"model must be an nn.Sequential MLP, got {type(model).__name__}: {remedy}.")
        others = list(model)[1::2]
        for index, layer in enumerate(model):
            wanted = (nn.Linear,) if index % 2 == 0 else ACTIVATIONS
            if type(layer) not in wanted or (isinstance(layer, nn.Linear) and layer.bias is None):
                names = " or ".join(kind.__name__ for kind in wanted)
                raise ValueError(f"model[{index}] must be a {names} with bias, got {layer}: {remedy}.")
            if isinstance(layer, nn.GELU) and layer.approximate != "none":
                raise ValueError(f"model[{index}] must be the exact GELU, got {layer}: {remedy}.")
        kinds = {type(layer) for layer in others}
        if len(kinds) > 1:
            raise ValueError(f"model must have one kind of activation, got {len(kinds)}: {remedy}.")
        linears = [layer for layer in model if isinstance(layer, nn.Linear)]
        sizes = (linears[0].in_features, *(layer.out_features for layer in linears))
        return cls(sizes, ACTIVATIONS.index(kinds.pop()) if kinds else 0)


class StackedMLP:
    """R multilayer perceptrons of equal depth, each of its own widths and activation.

    Narrow rows are padded with zero weights. A padded unit puts out zero and gets a zero gradient under every
    activation here (all map 0 to 0), so padding needs no masks, and a row computes what it would alone.
    Parameters and gradients are one (R, M) tensor each, so that an optimizer step is a few passes over it.

    Args:
        shapes: of each row, of one depth, rows of equal activation side by side.
        dtype: of parameters and data.
        device: of the same.
    """

    def __init__(self, shapes: Sequence[MLPShape], dtype: torch.dtype, device: torch.device) -> None:
        self.shapes = list(shapes)
        self.sizes = [max(shape.sizes[layer] for shape in shapes) for layer in range(len(shapes[0].sizes))]
        self._segments = _segments([shape.activation for shape in shapes])
        num_parameters = sum(a * b + b for a, b in itertools.pairwise(self.sizes))
        self.parameters = torch.zeros(len(shapes), num_parameters, dtype=dtype, device=device)
        self.gradients = torch.zeros_like(self.parameters)
        classes = torch.tensor([shape.sizes[-1] for shape in shapes], device=device)
        padded = torch.arange(self.sizes[-1], device=device) >= classes[:, None]
        self._class_mask = torch.zeros(padded.shape, dtype=dtype, device=device)
        self._class_mask = self._class_mask.masked_fill(padded, -torch.inf)[:, None]

    def load(self, row: int, model: nn.Module) -> None:
        """Copy the weights of `model`, an MLP of the row's shape, into `row`; the padding becomes zero."""
        self.parameters[row] = 0.0
        linears = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for (weight, bias), layer in zip(self.row(self.parameters, row), linears, strict=True):
                weight.copy_(layer.weight.T)
                bias.copy_(layer.bias)

    def store(self, row: int, model: nn.Module) -> None:
        """The opposite of `load`."""
        linears = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for (weight, bias), layer in zip(self.row(self.parameters, row), linears, strict=True):
                layer.weight.copy_(weight.T)
                layer.bias.copy_(bias)

    def row(self, flat: Tensor, row: int) -> list[tuple[Tensor, Tensor]]:
        """Weight (in, out) and bias (out,) of every layer of one row of `flat` (R, M), padding cut off: views."""
        sizes = itertools.pairwise(self.shapes[row].sizes)
        return [
            (weight[row, :inputs, :outputs], bias[row, 0, :outputs])
            for (inputs, outputs), (weight, bias) in zip(sizes, self._views(flat), strict=True)
        ]

    def losses(self, features: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy (R, B), nats, of every row on its batch: features (R, B, D), labels (R, B)."""
        return self._cross_entropy(self._forward(features)[-1], labels)[0]

    def backward(self, features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Losses (R, B) as `losses`; `gradients` become those of each row's sum of weights (R, B) * losses."""
        *hidden, logits = self._forward(features)
        losses, delta = self._cross_entropy(logits, labels)
        delta *= weights[:, :, None]
        views = list(zip(self._views(self.parameters), self._views(self.gradients), strict=True))
        for layer in reversed(range(len(views))):
            (weight, _), (weight_gradient, bias_gradient) = views[layer]
            torch.bmm(hidden[layer].transpose(1, 2), delta, out=weight_gradient)
            torch.sum(delta, dim=1, keepdim=True, out=bias_gradient)
            if layer > 0:
                delta = torch.bmm(delta, weight.transpose(1, 2))
                self._through_activation(delta, layer, hidden[layer])
        return losses

    def _forward(self, features: Tensor) -> list[Tensor]:
        """The input of every layer, and the logits (R, B, C)."""
        values, self._before = [features], [features]
        views = self._views(self.parameters)
        for layer, (weight, bias) in enumerate(views):
            output = torch.baddbmm(bias, values[-1], weight)
            if layer < len(views) - 1:
                self._before.append(output)
                output = self._activate(output)
            values.append(output)
        return values

    def _activate(self, values: Tensor) -> Tensor:
        output = torch.empty_like(values)
        for start, stop, kind in self._segments:
            part, out = values[start:stop], output[start:stop]
            if kind == 0:
                torch.clamp(part, min=0.0, out=out)
            elif kind == 1:
                torch.tanh(part, out=out)
            else:
                torch.ops.aten.gelu.out(part, out=out)
        return output

    def _through_activation(self, delta: Tensor, layer: int, output: Tensor) -> None:
        """Multiply `delta` by the derivative of the activation that gave `output`, in place."""
        for start, stop, kind in self._segments:
            part, out = delta[start:stop], output[start:stop]
            if kind == 0:
                part.mul_(out > 0)
            elif kind == 1:
                part.mul_(1.0 - out.square())
            else:
                part.copy_(torch.ops.aten.gelu_backward(part, self._before[layer][start:stop]))

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (R, B) and their derivative with respect to the logits (R, B, C)."""
        log_probabilities = torch.log_softmax(logits + self._class_mask, dim=2)
        index = labels[:, :, None]
        losses = -log_probabilities.gather(2, index)[:, :, 0]
        delta = log_probabilities.exp_()
        delta.scatter_add_(2, index, torch.full_like(index, -1, dtype=delta.dtype))
        return losses, delta

    def _views(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights (R, in, out) and biases (R, 1, out) of every layer, as views of `flat` (R, M)."""
        views, start, rows = [], 0, len(flat)
        for inputs, outputs in itertools.pairwise(self.sizes):
            middle, end = start + inputs * outputs, start + inputs * outputs + outputs
            views.append((flat[:, start:middle].view(rows, inputs, outputs), flat[:, None, middle:end]))
            start = end
        return views


def _segments(kinds: Sequence[int]) -> list[tuple[int, int, int]]:
    """(start, stop, kind) of the runs of equal kinds."""
    segments, start = [], 0
    for kind, group in itertools.groupby(kinds):
        stop = start + len(list(group))
        segments.append((start, stop, kind))
        start = stop
    return segments
