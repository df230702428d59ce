"""What documents say of the shipped policy: `python -m rlsched.experiments.default_policy.evidence DIR [DIR ...]`.

Each DIR is the folder of an `rlsched evaluate`. Figures go to docs/evidence.json, the picture of the first to
docs/evidence.png, and the tables into `DOCUMENTS`, between the marks that are there for them.

A table of all methods of the field takes hours, and says more of them than of the policy: it is the last one that
was made with `--methods controllers`, under the name "field", beside whichever policy was shipped then.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlsched._check import ArgumentError
from rlsched._files import write_atomically
from rlsched.experiments.evaluation import Results, Row

ROOT = Path(__file__).resolve().parents[2]
JSON = ROOT / "docs" / "evidence.json"
DOCUMENTS = {"README.md": "short", "docs/policy.md": "long", "docs/findings.md": "short"}
"""Document -> its table: every method ("short"), or the policy alone on every kind of task ("long")."""
KINDS = ("all", "noisy or mixed", "clean")
FIELD = ("field", "driver")
"""Kinds of methods that `rlsched evaluate --methods` adds: too many for all tables."""


def main(folders: Sequence[str]) -> int:
    """Gather, draw and write."""
    if not folders:
        print(__doc__, file=sys.stderr)
        return 2
    from rlsched.experiments.plots.evaluation import plot_ranking

    found: dict[str, Any] = json.loads(JSON.read_text()) if JSON.exists() else {}
    suites = []
    for folder in folders:
        results = Results.load(Path(folder))
        found |= entries(results)
        suites.append(results.suite)
    texts = {name: filled((ROOT / name).read_text(), found, length) for name, length in DOCUMENTS.items()}
    write_atomically(JSON, json.dumps(found, indent=1).encode())
    shown = [row for row in rows(found[suites[0]]) if row.tasks == "all"]
    print(plot_ranking(shown, JSON.with_suffix(".png")))
    for name, text in texts.items():
        print(write_atomically(ROOT / name, text.encode()))
    return 0


def entries(results: Results) -> dict[str, Any]:
    """What is kept of `results`: by the suite, and once more as "field" if methods of the field are in it."""
    about = {"made_with": results.made_with, "tasks": len(results.tasks)}
    kept = [dataclasses.asdict(row) for row in results.rows if _kept(row)]
    found = {results.suite: about | {"rows": [row for row in kept if row["kind"] not in FIELD]}}
    return found | ({"field": about | {"rows": kept}} if any(row["kind"] in FIELD for row in kept) else {})


def rows(suite: dict[str, Any]) -> list[Row]:
    """The figures of one suite, as `main` keeps them."""
    return [Row.of(row) for row in suite["rows"]]


def filled(text: str, found: dict[str, Any], length: str) -> str:
    """`text` with the tables between their marks, `<!-- evidence NAME -->` and `<!-- end -->`."""

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in found:
            raise ArgumentError(f"a folder with results of the suite {name} must be among those given.")
        table = long(rows(found[name])) if length == "long" else short(rows(found[name]))
        return f"<!-- evidence {name} -->\n{table}\n<!-- end -->"

    return re.sub(r"<!-- evidence (\S+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def _kept(row: Row) -> bool:
    """Not one of the many curricula, and of the methods of the field only what a table shows."""
    return row.kind != "curriculum" and (row.kind not in FIELD or row.tasks in KINDS)


def short(table: Sequence[Row]) -> str:
    """Every method, the best mean first, on three kinds of tasks; the policy from a sensible base alone."""
    found = {(row.method, row.tasks): row for row in table}
    heads = ["method", "runs", "win / tie / loss", "95 % interval", *KINDS]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    everywhere = [row for row in table if row.tasks == "all"]
    for row in sorted(everywhere, key=lambda row: row.log_ratio.value):
        if row.kind == "policy" and not row.method.endswith("base x1"):
            continue
        name = f"**{row.method}**" if row.kind == "policy" else row.method
        shares = " / ".join(f"{100 * share:.0f}" for share in (row.win, row.tie, 1.0 - row.win - row.tie))
        interval = f"{row.log_ratio.low:+.2f} to {row.log_ratio.high:+.2f}"
        cells = [_cell(found[row.method, kind]) if (row.method, kind) in found else "" for kind in KINDS]
        lines.append(f"| {' | '.join([name, f'{row.runs:.3g}', f'{shares} %', interval, *cells])} |")
    return "\n".join(lines)


def long(table: Sequence[Row]) -> str:
    """The policy on every kind of task."""
    mine = [row for row in table if row.kind == "policy"]
    names = list(dict.fromkeys(row.method for row in mine))
    found = {(row.method, row.tasks): row for row in mine}
    lines = [
        f"| tasks | n | {' | '.join(name.removeprefix('rlsched, ') for name in names)} |",
        "|---" * (2 + len(names)) + "|",
    ]
    for kind in dict.fromkeys(row.tasks for row in mine):
        cells = [_cell(found[name, kind]) for name in names]
        lines.append(f"| {kind} | {found[names[0], kind].count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    return f"{row.log_ratio.value:+.3f} ({row.interquartile.value:+.3f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
