"""Pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlsched.contract import Array
from rlsched.experiments.evaluation import BEST_TUNED, Method, Row, Run
from rlsched.experiments.evaluation.figures import speed_ups
from rlsched.experiments.evaluation.methods import log_ratios
from rlsched.experiments.plots.style import BLUE, GREEN, GREY, ORANGE, RED, SKY, bucket_label, save, shades, tidy

KIND_COLOURS = {
    "policy": BLUE,
    "schedule": GREY,
    "library": ORANGE,
    "field": SKY,
    "driver": RED,
    "best": "black",
    "default": "black",
    "curriculum": GREEN,
}
LIMIT = 1.0
"""Nats beyond which differences are drawn at the edge."""


def plot_ranking(rows: Sequence[Row], path: Path) -> Path:
    """Every method's mean log ratio with its interval, and that of its middle half."""
    import matplotlib.pyplot as plt

    shown = sorted(
        (row for row in rows if row.kind != "curriculum" and row.method != BEST_TUNED),
        key=lambda row: -row.log_ratio.value,
    )
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.32 * len(shown)), layout="constrained")
    for at, row in enumerate(shown):
        colour = KIND_COLOURS[row.kind]
        axis.plot([row.log_ratio.low, row.log_ratio.high], [at, at], color=colour, linewidth=2)
        axis.plot(row.log_ratio.value, at, "o", color=colour, markersize=7)
        axis.plot(row.interquartile.value, at, "|", color=colour, markersize=14, markeredgewidth=2)
    axis.axvline(0.0, color="black", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(shown)), [f"{row.method} ({_runs(row.runs)})" for row in shown], fontsize=9)
    for label, row in zip(axis.get_yticklabels(), shown, strict=True):
        label.set_fontweight("bold" if row.kind == "policy" else "normal")
    axis.set_xlabel(f"ln(test loss / that of the {BEST_TUNED})")
    figure.suptitle("Mean and 95 % interval; upright bar: middle half of the tasks; left is better", fontsize=10)
    axis.grid(axis="x", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    return save(figure, path)


def plot_profiles(methods: dict[str, Method], names: Sequence[str], path: Path) -> Path:
    """Performance profile (Dolan and More 2002): the share of tasks within each factor of the best tuned."""
    ratios = {name: log_ratios(methods[name], methods[BEST_TUNED]).mean(axis=1) for name in names}
    return _plot_shares(
        {name: values[np.isfinite(values)] for name, values in ratios.items()},
        np.linspace(-LIMIT, LIMIT, 401),
        f"ln(test loss / that of the {BEST_TUNED})",
        "share of tasks at or below",
        "Higher is better; at 0 each curve says how often a method is no worse",
        path,
    )


def plot_speed_ups(methods: dict[str, Method], names: Sequence[str], path: Path) -> Path:
    """Share of runs that reached tuned linear decay's final validation loss in a share of its steps.

    Runs that `speed_ups` does not compare are left out, as they are in the tables.
    """
    shares = {}
    for name in names:
        which = np.flatnonzero(np.isfinite(methods[name].test).all(axis=1))
        gains = speed_ups(methods[name], methods["linear"], which)
        gains = gains[np.isfinite(gains)]
        shares[name] = np.where(gains > 0, 1.0 / np.maximum(gains, 1e-9), np.inf)
    return _plot_shares(
        shares,
        np.linspace(0.0, 1.0, 201),
        "share of the run's steps",
        "share of runs that are there",
        "Steps to the final validation loss of tuned linear decay; higher is better",
        path,
    )


def _plot_shares(values: dict[str, Array], grid: Array, x: str, y: str, title: str, path: Path) -> Path:
    """For each name, the share of its values that are at most each of `grid`."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.6), layout="constrained")
    for name, colour, line in _lines(list(values)):
        shares = [(values[name] <= limit).mean() if values[name].size else 0.0 for limit in grid]
        axis.plot(grid, shares, color=colour, linestyle=line, label=name)
    if grid[0] < 0.0:
        axis.axvline(0.0, color="black", linewidth=0.8, linestyle=":")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_ylim(0.0, 1.0)
    axis.set_title(title, loc="left", fontsize=11)
    tidy(axis)
    axis.legend(frameon=False, fontsize=9)
    return save(figure, path)


def plot_cases(cases: Sequence[tuple[str, Run, Run]], path: Path) -> Path:
    """Losses, learning rates and weights of each case: title, run of the policy, run of tuned linear decay."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(cases), 3, figsize=(11, 2.7 * len(cases)), layout="constrained", squeeze=False)
    for (loss, rate, weights), (title, run, linear) in zip(axes, cases, strict=True):
        for each, colour, label in ((linear, GREY, "tuned linear decay"), (run, BLUE, "policy")):
            loss.plot([0, *each.steps], [0.0, *each.curve], color=colour, label=label)
        loss.set_title(title, loc="left", fontsize=10)
        loss.set_ylabel("ln(validation loss / initial)", fontsize=9)
        rate.plot(run.steps, _positive(run.lr), color=BLUE)
        if linear.lr:
            rate.plot(linear.steps, _positive(linear.lr), color=GREY)
        rate.set_yscale("log")
        rate.set_ylabel("learning rate", fontsize=9)
        table = np.array(run.bucket_weights)
        for bucket, colour in enumerate(shades(table.shape[1]) if table.size else []):
            weights.plot(run.steps, table[:, bucket], color=colour, label=bucket_label(bucket, table.shape[1]))
        weights.set_ylabel("bucket weights", fontsize=9)
        weights.set_ylim(bottom=0.0)
        for axis in (loss, rate, weights):
            tidy(axis)
    axes[0, 0].legend(frameon=False, fontsize=8)
    if axes[0, 2].get_legend_handles_labels()[0]:
        axes[0, 2].legend(frameon=False, fontsize=8, ncols=2, title="bucket", title_fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    return save(figure, path)


def _positive(values: Sequence[float]) -> Array:
    return np.maximum(np.array(values), 1e-8)


def _runs(count: float) -> str:
    return "1 run" if count == 1 else f"{count:.3g} runs"


def _lines(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Name, colour and line style: policies solid, all else dashed."""
    colours = iter([GREY, "black", ORANGE, GREEN, SKY, RED])
    mine = iter([BLUE, RED, SKY])
    return [
        (name, next(mine), "-") if name.startswith("rlsched") else (name, next(colours), "--") for name in names
    ]
