"""What documents say of the shipped policy: `python -m rlsched.experiments.default_policy.evidence DIR [DIR ...]`.

Each DIR is the folder of an `rlsched evaluate`. Figures go to docs/evidence.json, the picture of the first to
docs/evidence.png, and the tables into `DOCUMENTS`, between the marks that are there for them.

Methods that an evaluation left out keep the figures of the last one, with its commit, if the two agree on all
others but the policy: for a new policy, `rlsched evaluate --no-curricula --no-other-libraries` is enough.
"""

from __future__ import annotations

import dataclasses
import json
import math
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
DOCUMENTS = {"README.md": "short", "docs/policy.md": "long", "docs/findings.md": "field"}
"""Document -> its table: of the policy and what is tuned ("short"), of the policy alone on every kind of task
("long"), or of every method there is ("field")."""
KINDS = ("all", "noisy or mixed", "clean")
ROUNDING = 1e-5
"""What figures, which are shown with three decimals, may differ by and still be the same."""
FIELD = ("field", "driver")
"""Kinds of methods that `rlsched evaluate --methods` adds: too many for all tables."""


def main(folders: Sequence[str]) -> int:
    """Gather, draw and write."""
    if not folders:
        print(__doc__, file=sys.stderr)
        return 2
    from rlsched.experiments.plots.evaluation import plot_ranking

    found: dict[str, Any] = {}
    before = json.loads(JSON.read_text()) if JSON.exists() else {}
    for folder in folders:
        results = Results.load(Path(folder))
        suite = {
            "made_with": results.made_with,
            "tasks": len(results.tasks),
            "rows": [dataclasses.asdict(row) for row in results.rows if _kept(row)],
        }
        found[results.suite] = completed(suite, before[results.suite]) if results.suite in before else suite
    texts = {name: filled((ROOT / name).read_text(), found, length) for name, length in DOCUMENTS.items()}
    write_atomically(JSON, json.dumps(found, indent=1).encode())
    first = next(iter(found))
    shown = [row for row in rows(found[first]) if row.tasks == "all" and row.kind not in FIELD]
    print(plot_ranking(shown, JSON.with_suffix(".png")))
    for name, text in texts.items():
        print(write_atomically(ROOT / name, text.encode()))
    return 0


def completed(suite: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """`suite`, with the rows of the evidence `before` on other methods than its own, and whose commits they are.

    Raises:
        ArgumentError: the two do not say the same of the methods that both have, other than policies and times.
    """

    def others(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
        return {(row["method"], row["tasks"]): row for row in found["rows"] if row["kind"] != "policy"}

    mine, theirs = others(suite), others(before)
    missing = [row for key, row in theirs.items() if key not in mine]
    if not missing:
        return suite
    for key in mine.keys() & theirs.keys():
        if not _same(mine[key], theirs[key]):
            names = sorted({row["method"] for row in missing})
            raise ArgumentError(
                f"the evaluation must have {', '.join(names)}, as what it says of {key[0]} on {key[1]} is not "
                "what docs/evidence.json says: run it again with --methods and without --no-...."
            )
    older = before.get("kept", {})
    kept = {row["method"]: older.get(row["method"], before["made_with"]["git"]) for row in missing}
    return suite | {"rows": suite["rows"] + missing, "kept": kept}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows agree but for times, and for what machines that round differently come to."""

    def agree(mine: Any, theirs: Any) -> bool:
        if isinstance(mine, dict):
            return mine.keys() == theirs.keys() and all(agree(mine[name], theirs[name]) for name in mine)
        if isinstance(mine, float):
            return math.isclose(mine, theirs, abs_tol=ROUNDING) or (math.isnan(mine) and math.isnan(theirs))
        return bool(mine == theirs)

    return agree(one | {"seconds": 0.0}, other | {"seconds": 0.0})


def rows(suite: dict[str, Any]) -> list[Row]:
    """The figures of one suite, as `main` keeps them."""
    return [Row.of(row) for row in suite["rows"]]


def filled(text: str, found: dict[str, Any], length: str) -> str:
    """`text` with the tables of each suite between its marks, `<!-- evidence SUITE -->` and `<!-- end -->`."""

    def fill(match: re.Match[str]) -> str:
        suite = match.group(1)
        if suite not in found:
            raise ArgumentError(f"a folder with results of the suite {suite} must be among those given.")
        mine = [row for row in rows(found[suite]) if length == "field" or row.kind not in FIELD]
        table = long(mine) if length == "long" else short(mine)
        return f"<!-- evidence {suite} -->\n{table}\n<!-- end -->"

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
