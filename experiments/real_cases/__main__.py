"""A policy against tuned runs, in plain loops: `python -m rlsched.experiments.real_cases --out DIR`."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from rlsched import Policy, _check
from rlsched._check import ArgumentError
from rlsched._files import write_atomically
from rlsched.experiments.evaluation import digest
from rlsched.experiments.plots.real_cases import plot_real_cases
from rlsched.experiments.real_cases.cases import CASES
from rlsched.experiments.real_cases.examine import DEFAULT, METHODS, Found, examine
from rlsched.experiments.tables import markdown


def table(found: dict[str, Found]) -> str:
    """Markdown: ln(test loss / that of the tuned run) by case and method, lower is better; then means."""
    methods = (DEFAULT, *METHODS)
    rows = []
    for name, each in found.items():
        tuned = f"{each.tuned[0]} {each.tuned[1]:g}"
        ratios = {method: f"{each.log_ratio(method):+.3f}" for method in methods}
        rows.append({"case": name, "tuned": tuned} | ratios)
    known = [case for case in CASES if case.name in found]
    for what, some in (
        ("all", known),
        ("wrong labels", [case for case in known if case.noisy]),
        ("right labels", [case for case in known if not case.noisy]),
    ):
        if some:
            means = {method: np.mean([found[case.name].log_ratio(method) for case in some]) for method in methods}
            rows.append({"case": f"**{what}**"} | {method: f"**{mean:+.3f}**" for method, mean in means.items()})
    return markdown(rows)


def main(out: Path, policy: str = "", only: str = "", workers: int = 0) -> int:
    """Examine a policy on all cases, in some ten minutes on two cores, and go on where that was stopped.

    Args:
        out: folder of results.json, table.md and real_cases.png.
        policy: file of the policy; by default the one that comes with rlsched.
        only: what names of cases must contain.
        workers: processes, each with a case at a time; 0 for this one alone.
    """
    _check.integer("workers", workers, 0)
    names = [case.name for case in CASES if only in case.name]
    if not names:
        every = "; ".join(case.name for case in CASES)
        raise ArgumentError(f"only must be part of the name of a case ({every}), got {only!r}.")
    chosen = Policy.load(policy) if policy else Policy.default()
    path = out / "results.json"
    found = _known(path, digest(chosen))
    left = [name for name in names if name not in found]
    with tqdm(total=len(left), desc="cases", unit="case", dynamic_ncols=True) as bar:
        for name, each in _examined(left, chosen, workers):
            found[name] = each
            plain = {name: dataclasses.asdict(each) for name, each in found.items()}
            write_atomically(path, json.dumps({"policy": digest(chosen), "cases": plain}, indent=1).encode())
            bar.update()
    found = {case.name: found[case.name] for case in CASES if case.name in found}
    shown = table(found)
    write_atomically(out / "table.md", f"{shown}\n".encode())
    noisy = [case.name for case in CASES if case.noisy]
    print(f"Picture: {plot_real_cases(found, noisy, out / 'real_cases.png')}\n")
    print(f"ln(test loss / that of the best of 18 tuned runs), below 0 is better\n\n{shown}")
    return 0


def _known(path: Path, policy: str) -> dict[str, Found]:
    """What an earlier call has found of the same policy."""
    if not path.exists():
        return {}
    before = json.loads(path.read_text())
    if before["policy"] != policy:
        raise ArgumentError(f"out must not hold results of another policy, {path.parent} does: name another.")
    return {
        name: Found((each["tuned"][0], each["tuned"][1]), each["losses"]) for name, each in before["cases"].items()
    }


def _examined(names: Sequence[str], policy: Policy, workers: int) -> Iterator[tuple[str, Found]]:
    """Every case with what was found, in the order in which they are done."""
    if not workers:
        for name in names:
            yield name, examine(name, policy)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(examine, name, policy): name for name in names}
        for job in as_completed(jobs):
            yield jobs[job], job.result()


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, prog="python -m rlsched.experiments.real_cases"))
    except (OSError, ArgumentError) as error:
        sys.exit(f"real_cases: {error}")
