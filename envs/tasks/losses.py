"""Per-example losses of a model on a batch."""

from __future__ import annotations

from torch import Tensor, nn


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy (B,), nats, of classification: inputs (B, ...), classes (B,)."""
    inputs, labels = batch
    return nn.functional.cross_entropy(model(inputs), labels, reduction="none")


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean over outputs (B,) of the squared error of regression: inputs and targets (B, ...)."""
    inputs, targets = batch
    return (model(inputs) - targets).square().flatten(1).mean(dim=1)


def sequence_cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean over positions (B,) of the cross-entropy, nats: tokens (B, L), next tokens (B, L)."""
    inputs, targets = batch
    logits = model(inputs).flatten(0, 1)
    return nn.functional.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape).mean(dim=1)
