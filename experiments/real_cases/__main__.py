"""A policy against tuned runs, in plain loops: `python -m rlsched.experiments.real_cases --out DIR`."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from rlsched import Policy
from rlsched._check import ArgumentError
from rlsched._files import write_atomically
from rlsched.experiments.evaluation import digest
from rlsched.experiments.real_cases.cases import CASES
from rlsched.experiments.real_cases.examine import DEFAULT, METHODS, Found, examine


def table(found: dict[str, Found]) -> Table:
    """ln(test loss / tuned) by case and method, lower is better; then the means."""
    methods = (DEFAULT, *METHODS)
    shown = Table("case", "tuned", *methods, title="ln(test loss / that of the best of 18 tuned runs)")
    for name, each in found.items():
        ratios = [f"{each.log_ratio(method):+.3f}" for method in methods]
        shown.add_row(name, f"{each.tuned[0]} {each.tuned[1]:g}", *ratios)
    noisy = [case.name for case in CASES if case.noisy]
    for what, some in (
        ("mean", list(found)),
        ("wrong labels", noisy),
        ("others", [n for n in found if n not in noisy]),
    ):
        chosen = [found[name] for name in some if name in found]
        if chosen:
            means = [f"{np.mean([each.log_ratio(method) for each in chosen]):+.3f}" for method in methods]
            shown.add_row(what, "", *means, style="bold")
    return shown


def main(out: Path, policy: str = "", only: str = "", workers: int = 1) -> int:
    """Examine a policy on all cases, in some ten minutes, and go on where that was stopped.

    Args:
        out: folder of results.json.
        policy: file of the policy; by default the one that comes with rlsched.
        only: what names of cases must contain.
        workers: processes, each with a case at a time.
    """
    cases = [case for case in CASES if only in case.name]
    if not cases:
        names = "; ".join(case.name for case in CASES)
        raise ArgumentError(f"only must be part of the name of a case ({names}), got {only!r}.")
    chosen = Policy.load(policy) if policy else Policy.default()
    path, mark = out / "results.json", digest(chosen)
    before = json.loads(path.read_text()) if path.exists() else {"policy": mark, "cases": {}}
    if before["policy"] != mark:
        raise ArgumentError(f"out must be a folder without results of another policy, got {out}: name another.")
    found = {name: Found(tuple(each["tuned"]), each["losses"]) for name, each in before["cases"].items()}
    left = [case.name for case in cases if case.name not in found]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(examine, name, chosen): name for name in left}
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="cases", unit="case", dynamic_ncols=True):
            found[jobs[job]] = job.result()
            plain = {case.name: dataclasses.asdict(found[case.name]) for case in CASES if case.name in found}
            write_atomically(path, json.dumps({"policy": mark, "cases": plain}, indent=1).encode())
    found = {case.name: found[case.name] for case in CASES if case.name in found}
    Console(width=160).print(table(found))
    print(f"Figures: {path}.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, prog="python -m rlsched.experiments.real_cases"))
    except (OSError, ArgumentError) as error:
        sys.exit(f"real_cases: {error}")
