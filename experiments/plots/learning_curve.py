"""The learning curve of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlsched.experiments.learning_curve import LearningCurve
from rlsched.experiments.plots.style import BLUE, GREY, RED, save, tidy


def plot_learning_curve(curve: LearningCurve, path: Path) -> Path:
    """Score of the policy over iterations, between its baselines."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, axis = plt.subplots(figsize=(7, 5), layout="constrained")
    axis.axhline(curve.default, color=GREY, linestyle="--", label="best single schedule and learning rate")
    axis.axhline(curve.tuned, color="black", linestyle=":", label="linear decay, tuned for each task")
    axis.plot(curve.iterations, curve.scores, color=BLUE, marker="o", markersize=5, label="policy")
    if len(curve.iterations) and curve.iterations[0] == 0:
        axis.plot(0, curve.scores[0], "s", color=BLUE, markersize=9, label="policy after the warm start")
    if len(curve.scores):
        best = int(np.nanargmin(curve.scores))
        axis.plot(
            curve.iterations[best], curve.scores[best], "*", color=RED, markersize=16, label="best: exported"
        )
    axis.set_xlabel(f"iterations of PPO ({curve.decisions:,} decisions each)")
    axis.set_ylabel("score: mean ln(final / initial validation loss)")
    axis.set_title("Fixed tasks that are never trained on; lower is better", loc="left", fontsize=11)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.margins(y=0.12)
    tidy(axis)
    figure.legend(frameon=False, fontsize=9, ncols=2, loc="outside lower center")
    return save(figure, path)
