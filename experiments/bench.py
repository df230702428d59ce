"""`rlsched bench`."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table

from rlsched import _check
from rlsched._files import write_atomically
from rlsched.benchmarks.rows import Row

TABLES = ("population", "environment", "memory", "overhead", "controllers", "rollouts")


def main(
    only: tuple[str, ...] = TABLES,
    rounds: int | None = None,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Measure how fast and how small things are, as ratios taken in one run; one thread.

    Args:
        only: tables to measure, of population, environment, memory, overhead, controllers and rollouts (with Ray).
        rounds: how often each thing is timed; without it as often as its table needs on a machine that others use.
        json_file: also write the rows there: a list of name, value, unit, baseline, ratio.
    """
    for name in only:
        _check.choice("only", name, TABLES)
    timed = {} if rounds is None else {"rounds": _check.integer("rounds", rounds, 1)}
    torch.set_num_threads(1)
    console, rows = Console(width=120), []
    for name in only:
        with console.status(f"measuring {name} ..."):
            module = importlib.import_module(f"rlsched.benchmarks.{name}")
            measured: list[Row] = module.rows(**timed)
            if name == "population" and torch.cuda.is_available():
                measured += module.device_rows(**timed)
        console.print(_table(name, measured))
        rows += measured
    if json_file is not None:
        write_atomically(json_file, json.dumps([dataclasses.asdict(row) for row in rows], indent=2).encode())
        console.print(f"Written to {json_file}.")


def _table(title: str, rows: list[Row]) -> Table:
    table = Table("what", title=title, title_justify="left", width=120)
    for name in ("value", "unit", "baseline", "ratio"):
        table.add_column(name, justify="left" if name == "unit" else "right")
    for row in rows:
        table.add_row(row.name, f"{row.value:.4g}", row.unit, f"{row.baseline:.4g}", f"{row.ratio:.3g}")
    return table
