"""One scheduled run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlsched.contract import Array
from rlsched.events import Event
from rlsched.experiments.plots.style import BLUE, GREEN, ORANGE, RED, bucket_label, save, shades, tidy


def plot_run(decisions: Sequence[dict[str, Any]], events: Sequence[Event], path: Path) -> Path:
    """Learning rates, losses and, if there is more than one bucket, their weights, over the steps of a run.

    Args:
        decisions: rows of `read_run_log`.
        events: marked where they happened.
        path: the picture.
    """
    import matplotlib.pyplot as plt

    steps = np.array([row["step"] for row in decisions])
    weights = np.array([row["bucket_weights"] for row in decisions], dtype=float)
    panels = 3 if weights.shape[1] > 1 else 2
    figure, axes = plt.subplots(panels, 1, figsize=(8, 1.2 + 2.2 * panels), layout="constrained", sharex=True)
    _plot_rates(axes[0], steps, decisions)
    _plot_losses(axes[1], steps, decisions)
    if panels == 3:
        _plot_weights(axes[2], steps, weights)
    for axis in axes:
        tidy(axis)
        for event in events:
            axis.axvline(event.step, color=RED, linestyle=":", linewidth=1)
    for kind in sorted({event.kind for event in events}):
        shown = ", ".join(str(event.step) for event in events if event.kind == kind)
        axes[0].plot([], [], color=RED, linestyle=":", label=f"{kind}: step {shown}"[:60])
    axes[0].legend(frameon=False, fontsize=9)
    axes[-1].set_xlabel("optimizer step")
    axes[0].set_title(f"{len(decisions)} decisions of a scheduled run", loc="left", fontsize=11)
    return save(figure, path)


def _plot_rates(axis: Any, steps: Array, decisions: Sequence[dict[str, Any]]) -> None:
    groups = max(len(row["lr"]) for row in decisions)
    for group in range(groups):
        rates = [row["lr"][group] if group < len(row["lr"]) else None for row in decisions]
        rates = [np.nan if rate is None or rate <= 0.0 else rate for rate in rates]
        label = "learning rate at each decision" if groups == 1 else f"learning rate of group {group}"
        axis.plot(
            steps, rates, marker=".", drawstyle="steps-post", color=BLUE if groups == 1 else None, label=label
        )
    axis.set_yscale("log")
    axis.set_ylabel("learning rate")


def _plot_losses(axis: Any, steps: Array, decisions: Sequence[dict[str, Any]]) -> None:
    for name, colour, label in (
        ("loss", ORANGE, "training, mean since the last decision"),
        ("validation_loss", GREEN, "validation"),
    ):
        values = np.array([np.nan if row[name] is None else row[name] for row in decisions], dtype=float)
        if np.isfinite(values).any():
            axis.plot(steps, values, marker=".", color=colour, label=label)
            axis.legend(frameon=False, fontsize=9)
    axis.set_ylabel("loss")


def _plot_weights(axis: Any, steps: Array, weights: Array) -> None:
    count = weights.shape[1]
    labels = [bucket_label(bucket, count) for bucket in range(count)]
    axis.stackplot(steps, weights.T, step="post", colors=shades(count), labels=labels, alpha=0.85)
    axis.set_ylim(0.0, 1.0)
    axis.set_ylabel("bucket weights")
    if count <= 8:
        axis.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), title="bucket", frameon=False)
