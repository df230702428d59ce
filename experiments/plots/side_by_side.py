"""Methods side by side on one task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlsched.contract import Array
from rlsched.experiments.plots.style import bucket_label, save, shades, tidy
from rlsched.experiments.side_by_side import Outcome


def plot_side_by_side(outcomes: Mapping[str, Outcome], path: Path) -> Path:
    """Losses and learning rates of all methods, and the bucket weights of each that moves them, over the steps."""
    import matplotlib
    import matplotlib.pyplot as plt

    steering = {name: outcome for name, outcome in outcomes.items() if _steers(outcome)}
    panels = 2 + len(steering)
    figure, axes = plt.subplots(panels, 1, figsize=(9, 1.0 + 2.4 * panels), layout="constrained", sharex=True)
    colours = matplotlib.colormaps["tab10" if len(outcomes) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    for at, (name, outcome) in enumerate(outcomes.items()):
        colour = colours[at % len(colours)]
        steps = _mean(outcome.steps)
        failed = ~np.isfinite(outcome.validation) & np.isfinite(outcome.steps)
        losses = np.where(failed, np.nan, outcome.validation)
        axes[0].plot(steps, _mean(losses), color=colour, label=name, linewidth=1.8)
        if len(losses) > 1:
            axes[0].fill_between(steps, *_range(losses), color=colour, alpha=0.12, linewidth=0)
        rates = _mean(outcome.lr)
        # At a window's beginning, which is the end of the one before.
        starts = np.concatenate([[0.0], steps[:-1]])
        axes[1].plot(starts, np.where(rates > 0, rates, np.nan), ".-", color=colour, linewidth=1.4)
    axes[0].set_ylabel("validation loss")
    axes[0].set_yscale("log")
    for which in (axes[0].yaxis.set_major_formatter, axes[0].yaxis.set_minor_formatter):
        which(lambda value, _: f"{value:.3g}")
    axes[1].set_ylabel("learning rate\nat each decision")
    axes[1].set_yscale("log")
    seeds = len(next(iter(outcomes.values())).test)
    axes[0].set_title(f"Mean over {seeds} seeds; shaded from the lowest to the highest", loc="left", fontsize=11)
    axes[0].legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for axis, (name, outcome) in zip(axes[2:], steering.items(), strict=True):
        _plot_weights(axis, name, outcome)
    for axis in axes:
        tidy(axis)
    axes[-1].set_xlabel("optimizer step")
    return save(figure, path)


def _plot_weights(axis: Any, name: str, outcome: Outcome) -> None:
    count = outcome.bucket_weights.shape[2]
    steps, weights = _mean(outcome.steps), _mean(outcome.bucket_weights)
    labels = [bucket_label(bucket, count) for bucket in range(count)]
    axis.stackplot(steps, weights.T, colors=shades(count), labels=labels, alpha=0.85)
    axis.set_ylim(0.0, 1.0)
    axis.set_ylabel(f"bucket weights,\n{name}")
    if count <= 8:
        axis.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), title="bucket", frameon=False)


def _steers(outcome: Outcome) -> bool:
    """Whether its bucket weights ever change."""
    weights = outcome.bucket_weights
    return bool(weights.shape[2] > 1 and np.nanmax(np.abs(weights - weights[:1, :1])) > 1e-6)


def _mean(values: Array) -> Array:
    """Over the seeds that go on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where none does
        return np.asarray(np.nanmean(values, axis=0))


def _range(values: Array) -> tuple[Array, Array]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmin(values, axis=0), np.nanmax(values, axis=0)
