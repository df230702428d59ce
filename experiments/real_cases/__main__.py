"""A policy against tuned runs, in plain loops: `python -m rlsched.experiments.real_cases --out DIR`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from tqdm import tqdm

from rlsched import Policy, PolicyFormatError, _check
from rlsched._check import ArgumentError
from rlsched._files import write_atomically
from rlsched.agents.run_folder import made_with
from rlsched.experiments.evaluation import digest
from rlsched.experiments.evaluation.statistics import mean_by_student
from rlsched.experiments.plain_run import TORCH_SCHEDULES
from rlsched.experiments.plots.real_cases import plot_real_cases
from rlsched.experiments.real_cases.cases import CASES
from rlsched.experiments.real_cases.data import BATCH, STEPS
from rlsched.experiments.real_cases.examine import DEFAULT, EVERY, METHODS, RATES, SEEDS, TUNING, Found, examine
from rlsched.experiments.real_cases.fresh import FRESH
from rlsched.experiments.real_cases.held_back import HELD_BACK
from rlsched.experiments.spawned import spawned
from rlsched.experiments.tables import markdown

TRIED = len(TORCH_SCHEDULES) * len(RATES)
PROTOCOL = json.loads(
    json.dumps(
        {
            "steps": STEPS, "batch": BATCH, "rates": RATES, "tuning": TUNING, "seeds": SEEDS, "methods": METHODS,
            "schedules": list(TORCH_SCHEDULES),
        }
    )
)  # fmt: skip
"""What results have to agree in if they are to stand in one table."""


def table(found: dict[str, Found], part: str) -> str:
    """Markdown: ln(loss / that of the tuned run) by case and method; means of groups have their 95 % interval."""
    methods = (DEFAULT, *METHODS)
    rows = []
    for name, each in found.items():
        ratios = {method: f"{each.log_ratio(method, part):+.3f}" for method in methods}
        rows.append({"case": name, "tuned": f"{each.tuned[0]} {each.tuned[1]:g}"} | ratios)
    known = [case for case in EVERY if case.name in found]
    for what, some in (
        ("never seen, right labels", [case for case in known if not case.seen and not case.noisy]),
        ("never seen, wrong labels", [case for case in known if not case.seen and case.noisy]),
        ("data seen in training", [case for case in known if case.seen]),
        ("all", known),
    ):
        if some:
            cells = {
                method: _mean([found[case.name].log_ratio(method, part) for case in some]) for method in methods
            }
            rows.append({"case": f"**{what}**"} | cells)
    return markdown(rows)


def _mean(ratios: list[float]) -> str:
    """Over cases, with half of the interval if there are enough of them."""
    found = mean_by_student(np.array(ratios))
    return f"**{found.value:+.3f}**" + (f" ± {found.high - found.value:.2f}" if len(ratios) > 1 else "")


def main(
    out: Path,
    policy: Path | None = None,
    cases: Literal["first", "held-back", "fresh", "all"] = "first",
    only: str = "",
    judge: Literal["test", "validation"] = "test",
    workers: int = 0,
) -> int:
    """Examine a policy on twelve cases, in some ten minutes on two cores, and go on where that was stopped.

    Args:
        out: folder of results.json, table.md and real_cases.png.
        policy: file of the policy; by default the one that comes with rlsched.
        cases: "first", twelve of which most took part in the choice of the shipped policy; "held-back", twelve
            more, of which some had a part in how it begins; "fresh", twelve that were written down before any
            run of them, and of which two had a part in its ceiling; or "all" of them.
        only: what names of cases must contain.
        judge: losses that are shown; to choose among policies, "validation", so that "test" can report.
        workers: processes, each with a case at a time; 0 for this one alone.
    """
    _check.integer("workers", workers, 0)
    asked = {"first": CASES, "held-back": HELD_BACK, "fresh": FRESH, "all": EVERY}[cases]
    names = [case.name for case in asked if only in case.name]
    if not names:
        every = "; ".join(case.name for case in asked)
        raise ArgumentError(f"only must be part of the name of a case ({every}), got {only!r}.")
    chosen = Policy.load(policy) if policy else Policy.default()
    path = out / "results.json"
    found = _known(path, digest(chosen))
    left = [(name, chosen) for name in names if name not in found]
    with tqdm(total=len(left), desc="cases", unit="case", dynamic_ncols=True) as bar:
        for (name, _), each in spawned(examine, left, workers):
            found[name] = each
            _keep(path, digest(chosen), found)
            bar.update()
    found = {case.name: found[case.name] for case in EVERY if case.name in found}
    shown = table(found, judge)
    write_atomically(out / "table.md", f"{shown}\n".encode())
    noisy = [case.name for case in EVERY if case.noisy]
    print(f"Picture: {plot_real_cases(found, noisy, judge, TRIED, out / 'real_cases.png')}\n")
    print(f"ln({judge} loss / that of the best of {TRIED} tuned runs), below 0 is better\n\n{shown}")
    return 0


def _keep(path: Path, policy: str, found: dict[str, Found]) -> None:
    """Losses that are not finite are null: JSON has no word for them."""

    def plain(losses: dict[str, list[float]]) -> dict[str, list[float | None]]:
        return {method: [v if v < float("inf") else None for v in each] for method, each in losses.items()}

    cases = {
        name: dataclasses.asdict(each) | {"validation": plain(each.validation), "test": plain(each.test)}
        for name, each in found.items()
    }
    content = {"policy": policy, "protocol": PROTOCOL, "made_with": made_with(), "cases": cases}
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False).encode())


def _known(path: Path, policy: str) -> dict[str, Found]:
    """What an earlier call has found of the same policy, in the same way."""
    if not path.exists():
        return {}
    try:
        before: dict[str, Any] = json.loads(path.read_text())
        same = {"policy": before["policy"] == policy, "protocol": before["protocol"] == PROTOCOL}
        found = {name: _found(each) for name, each in before["cases"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"out must not hold a damaged results.json, {path} is: remove it. ({error})"
        ) from error
    for what, agrees in same.items():
        if not agrees:
            raise ArgumentError(f"out must not hold results of another {what}, {path.parent} does: name another.")
    return found


def _found(stored: dict[str, Any]) -> Found:
    def losses(part: str) -> dict[str, list[float]]:
        return {method: [float("inf") if v is None else v for v in each] for method, each in stored[part].items()}

    schedule, lr = stored["tuned"]
    return Found((schedule, lr), losses("validation"), losses("test"))


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, prog="python -m rlsched.experiments.real_cases"))
    except (OSError, ArgumentError, PolicyFormatError) as error:
        sys.exit(f"real_cases: {error}")
