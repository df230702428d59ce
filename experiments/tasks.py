"""`rlsched tasks`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlsched import _check
from rlsched.envs.tasks import FAMILIES, describe


def main(family: Annotated[str | None, tyro.conf.Positional] = None, samples: int = 500) -> None:
    """List the families of training tasks, or the ranges of one.

    Args:
        family: of which to show every setting, as it was drawn.
        samples: tasks to draw.
    """
    console = Console()
    if family is None:
        table = Table("family", "what", title="rlsched train --tasks.family FAMILY", title_justify="left")
        for name, make in FAMILIES.items():
            table.add_row(name, escape(_first_sentence(make.__doc__ or "")))
        console.print(table)
        console.print("rlsched tasks FAMILY shows the ranges of its settings.")
        return
    _check.choice("family", family, FAMILIES)
    drawn = describe(FAMILIES[family](), np.random.default_rng(0), samples)
    for kind in dict.fromkeys(row.config for row in drawn):
        rows = [row for row in drawn if row.config == kind]
        title = f"{kind}, {rows[0].share:.0%} of {samples} tasks"
        table = Table("setting", "drawn", title=title, title_justify="left")
        for row in rows:
            table.add_row(row.field, escape(row.values))
        console.print(table)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".") + "."
