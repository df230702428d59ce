"""`rlsched inspect`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlsched.observation import RUN_FEATURES
from rlsched.policy import Policy
from rlsched.policy.format import find_file


def main(policy: Annotated[Path, tyro.conf.Positional]) -> None:
    """Show what a policy file says of its policy.

    Args:
        policy: the file, or a folder that holds it.
    """
    file = find_file(policy)
    loaded = Policy.load(file)
    console = Console()
    console.print(
        f"[bold]{escape(str(file))}[/bold]: {loaded.num_parameters} parameters, {file.stat().st_size} bytes"
    )
    written = {"rlsched_version": loaded.metadata.rlsched_version, "licence": loaded.metadata.licence}
    sections: dict[str, dict[str, Any]] = {
        "file": written,
        "actions": dataclasses.asdict(loaded.metadata.action),
        "trained on": loaded.metadata.training,
        "figures": loaded.metadata.evaluation,
    }
    for title, fields in sections.items():
        table = Table("field", "value", title=title, title_justify="left", min_width=60)
        for name, value in _flat(fields):
            table.add_row(escape(name), f"{value:.4g}" if isinstance(value, float) else escape(str(value)))
        console.print(table)
    limits = Table("feature", "lowest", "highest", title="range seen in training", title_justify="left")
    low, high = loaded.tensors["normalizer.run_low"], loaded.tensors["normalizer.run_high"]
    for feature, lowest, highest in zip(RUN_FEATURES, low, high, strict=True):
        limits.add_row(feature.name, f"{lowest:.3g}", f"{highest:.3g}")
    console.print(limits)


def _flat(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in fields.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return rows
