"""What a policy does, by kind of task."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from rlsched.contract import Array
from rlsched.experiments.behaviour import MISJUDGED, PROGRESS, Behaviour
from rlsched.experiments.plots.style import BLUE, GREEN, RED, bucket_label, save, shades, tidy

COLOURS = {"too low": BLUE, "about right": GREEN, "too high": RED}
FEWEST = 3
"""Runs that a curve is drawn for."""


def plot_behaviour(behaviour: Behaviour, path: Path) -> Path:
    """Learning rates, and bucket weights if there are any, over the run: a column for each kind of task."""
    import matplotlib.pyplot as plt

    kinds = {name: rows for name, rows in behaviour.kinds().items() if rows.sum() >= FEWEST or rows.all()}
    steered = behaviour.steered()
    height = 2 if steered.sum() >= FEWEST else 1
    figure, axes = plt.subplots(
        height, len(kinds), figsize=(1.6 + 2.1 * len(kinds), 0.9 + 2.5 * height), layout="constrained",
        sharex=True, sharey="row", squeeze=False,
    )  # fmt: skip
    for column, (name, rows) in zip(axes.T, kinds.items(), strict=True):
        column[0].set_title(f"{name} ({rows.sum()})", fontsize=10)
        _plot_rates(column[0], behaviour, rows)
        if height == 2:
            _plot_weights(column[1], behaviour.weights[rows & steered])
        for axis in column:
            tidy(axis)
        column[-1].set_xlim(0.0, 1.0)
        column[-1].set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
    _label(axes, behaviour)
    figure.supxlabel("progress of the run", fontsize=10)
    figure.suptitle(
        "What the policy does, by kind of task (number of runs); mean ± standard deviation", fontsize=11
    )
    return save(figure, path)


def _plot_rates(axis: Any, behaviour: Behaviour, rows: Array) -> None:
    axis.plot(PROGRESS, np.log10(1.0 - PROGRESS), color="black", linestyle="--", linewidth=1)
    for name, judged in behaviour.misjudgements().items():
        if (rows & judged).sum() >= FEWEST:
            _plot_spread(axis, behaviour.log_lr[rows & judged], COLOURS[name])


def _plot_weights(axis: Any, weights: Array) -> None:
    """Of runs with a curriculum (n, G, K)."""
    count = weights.shape[2]
    axis.axhline(1.0 / count, color="black", linestyle="--", linewidth=1)
    if len(weights) >= FEWEST:
        for bucket, colour in enumerate(shades(count)):
            _plot_spread(axis, weights[:, :, bucket], colour)


def _plot_spread(axis: Any, values: Array, colour: Any) -> None:
    """Mean and standard deviation of (n, G) over the runs that go on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where no run goes on
        mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    axis.fill_between(PROGRESS, mean - spread, mean + spread, color=colour, alpha=0.14, linewidth=0)
    axis.plot(PROGRESS, mean, color=colour, linewidth=1.8)


def _label(axes: Any, behaviour: Behaviour) -> None:
    rates, powers = axes[0, 0], range(-6, 7)
    low, high = rates.get_ylim()
    rates.set_yticks(list(powers), [f"{10.0**power:g}" for power in powers])
    rates.set_ylim(max(low, -3.0), high)
    rates.set_ylabel("learning rate / a sensible one")
    by_more = {"too low": f" (> {MISJUDGED:g}x)", "too high": f" (> {MISJUDGED:g}x)"}
    colours = {name + by_more.get(name, ""): colour for name, colour in COLOURS.items()}
    _legend(axes[0, -1], "base learning rate", colours, "linear decay of\na sensible one")
    if len(axes) == 2:
        count = behaviour.weights.shape[2]
        axes[1, 0].set_ylim(0.0, min(axes[1, 0].get_ylim()[1], 1.0))
        axes[1, 0].set_ylabel("bucket weight\n(runs with a curriculum)")
        colours = {bucket_label(bucket, count): colour for bucket, colour in enumerate(shades(count))}
        _legend(axes[1, -1], "bucket, by difficulty", colours, "all alike")


def _legend(axis: Any, title: str, colours: dict[str, Any], dashed: str) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    lines.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label=dashed))
    axis.legend(
        handles=lines, title=title, fontsize=9, title_fontsize=9, frameon=False,
        loc="center left", bbox_to_anchor=(1.02, 0.5), alignment="left",
    )  # fmt: skip
