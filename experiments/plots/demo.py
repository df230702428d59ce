"""The picture of the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlsched.contract import Array
from rlsched.experiments.plots.style import BLUE, GREY, ORANGE, RED, SKY, bucket_label, save, shades

if TYPE_CHECKING:
    from rlsched.experiments.plain_run import RunResult

COLOURS = {
    "constant": GREY,
    "linear": BLUE,
    "cosine": SKY,
    "rlsched, LR only": ORANGE,
    "rlsched, LR and curriculum": RED,
}


def plot_demo(
    results: Mapping[tuple[str, float, str], list[RunResult]],
    source: str,
    factors: Sequence[float],
    base_lr: float,
    path: Path,
) -> Path:
    """Loss, learning rate and bucket weights over time on one data set: a column for each base LR."""
    import matplotlib.pyplot as plt

    methods = [method for name, factor, method in results if (name, factor) == (source, factors[0])]
    figure, axes = plt.subplots(3, len(factors), figsize=(12, 8.5), sharex=True, sharey="row", squeeze=False)
    for column, factor in enumerate(factors):
        loss_axis, lr_axis, weight_axis = axes[:, column]
        loss_axis.set_title(f"base LR {base_lr * factor:g}")
        for method in methods:
            runs = results[source, factor, method]
            losses = np.mean([_smooth(run.losses) for run in runs], axis=0)
            loss_axis.plot(losses, color=COLOURS[method], label=method)
            rates = np.exp(np.mean([np.log(np.maximum(run.lr, 1e-9)) for run in runs], axis=0))
            lr_axis.plot(rates, color=COLOURS[method])
        _plot_weights(weight_axis, [run.bucket_weights for run in results[source, factor, methods[-1]]])
        weight_axis.set_xlabel("optimizer step")
        loss_axis.set_yscale("log")
        lr_axis.set_yscale("log")
    axes[0, 0].set_ylabel("training loss (smoothed)")
    axes[1, 0].set_ylabel("learning rate")
    axes[2, 0].set_ylabel("bucket weight")
    axes[2, 0].legend(title="bucket, by difficulty", fontsize=8, title_fontsize=8, ncols=2, loc="upper right")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    figure.suptitle(f"{source}, mean over {len(results[source, factors[0], methods[0]])} seeds", y=0.94)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    return save(figure, path)


def _plot_weights(axis: Any, weights: Sequence[Array]) -> None:
    mean = np.mean(weights, axis=0)
    count = mean.shape[1]
    for bucket, colour in enumerate(shades(count)):
        axis.plot(mean[:, bucket], color=colour, label=bucket_label(bucket, count))
    axis.set_ylim(0.0, 1.0)


def _smooth(values: Array, width: int = 10) -> Array:
    """Trailing mean over up to `width` values."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)
