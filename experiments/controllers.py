"""`rlsched controllers`."""

from __future__ import annotations

import json
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlsched.experiments.methods import METHODS


def main(as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """List the methods that set a learning rate or a curriculum.

    Args:
        as_json: write the list as JSON.
    """
    rows = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "contract": entry.contract,
            "what": entry.description.summary,
            "source": entry.description.source,
            "citation": entry.description.citation,
            "class": entry.where,
        }
        for entry in METHODS
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(
        "name", "kind", "what", "source", title="rlsched compare --controllers NAME,NAME", title_justify="left"
    )
    for row in rows:
        kind = row["kind"] + ("" if row["contract"] in ("controller", row["kind"]) else f" ({row['contract']})")
        table.add_row(row["name"], kind, escape(row["what"]), escape(row["citation"]))
    console = Console(width=130)
    console.print(table)
    console.print("Formulas, files and where each differs from its paper: docs/methods.md.")
