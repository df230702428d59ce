"""What all pictures share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Okabe and Ito's palette, told apart by readers with any colour vision.
GREY, ORANGE, SKY, GREEN = "#999999", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE = "#0072B2", "#D55E00", "#CC79A7"


def shades(count: int) -> list[Any]:
    """Colours of buckets, by difficulty, light to dark: ordered also without colour vision."""
    import matplotlib
    import numpy as np

    return [matplotlib.colormaps["plasma_r"](shade) for shade in np.linspace(0.25, 0.95, count)]


def bucket_label(bucket: int, count: int) -> str:
    """The name of a bucket in a legend."""
    ends = {0: " (easiest)", count - 1: " (hardest)"} if count > 1 else {}
    return f"{bucket}{ends.get(bucket, '')}"


def tidy(axis: Any) -> None:
    """Faint horizontal lines to read values by, and no frame above and on the right."""
    axis.grid(axis="y", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure: Any, path: Path) -> Path:
    """Write the figure and let go of it."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
