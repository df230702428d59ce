"""A policy on the real cases, at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlsched.experiments.plots.style import BLUE, GREEN, GREY, save
from rlsched.experiments.real_cases.examine import DEFAULT, Found

SHOWN = {
    DEFAULT: ("usual default, linear at 1e-3", GREY, "X"),
    "LR, from 1e-3": ("learning rate", BLUE, "o"),
    "LR, from 1e-4": ("the same from 1e-4 and 3e-2", BLUE, "|"),
    "LR, from 3e-2": ("", BLUE, "|"),
    "curriculum": ("learning rate and curriculum", GREEN, "o"),
}
"""Methods with a label, colour and mark."""


def plot_real_cases(found: dict[str, Found], noisy: Sequence[str], part: str, tried: int, path: Path) -> Path:
    """One line a case: losses in per cent of that of the tuned run, on a logarithmic axis.

    Args:
        found: of each case.
        noisy: names of the cases with wrong labels, which are set off from the others.
        part: whose losses are shown, "test" or "validation".
        tried: runs that tuning took.
        path: of the picture.
    """
    import matplotlib.pyplot as plt

    names = sorted(found, key=lambda name: name in noisy)
    figure, axis = plt.subplots(figsize=(8, 1.6 + 0.32 * len(names)), layout="constrained")
    for method, (label, colour, mark) in SHOWN.items():
        ratios = [100.0 * np.exp(found[name].log_ratio(method, part)) for name in names]
        axis.plot(ratios, range(len(names)), mark, color=colour, label=label or "_", markersize=7, alpha=0.9)
    axis.axvline(100.0, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_xticks(ticks := [25, 50, 75, 100, 150, 200], [f"{tick} %" for tick in ticks], minor=False)
    axis.minorticks_off()
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel(f"{part} loss of one untuned run; 100 %: best of {tried} tuned runs (left is better)")
    axis.grid(axis="x", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=9, loc="outside upper center", ncols=2)
    return save(figure, path)
