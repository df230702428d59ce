"""`rlsched report`."""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from rlsched import _check
from rlsched._files import write_atomically
from rlsched.experiments.evaluation import BEST_CURRICULUM, BEST_TUNED, Method, Results, Row, Run
from rlsched.experiments.evaluation.figures import TIE
from rlsched.experiments.evaluation.methods import log_ratios
from rlsched.experiments.evaluation.results import FILE

CASES = 3
"""Tasks of each sort that are drawn."""


@dataclass(frozen=True)
class Case:
    """A task as the report shows it.

    Attributes:
        ratio: log ratio of the policy to the best of all tuned, mean over seeds.
        title: what it is.
        facts: what is the matter with it.
        policy: run of the policy, from the first report seed.
        linear: that of tuned linear decay.
    """

    ratio: float
    title: str
    facts: str
    policy: Run
    linear: Run


def main(folder: Annotated[Path, tyro.conf.Positional]) -> None:
    """Draw the results of rlsched evaluate: pictures, and report.html, which holds all of it in one file.

    Args:
        folder: what was --out of rlsched evaluate.
    """
    for name in ("matplotlib", "jinja2"):
        if importlib.util.find_spec(name) is None:
            raise _check.ArgumentError(f"a report needs {name}: pip install 'rlsched[evaluate]'.")
    if folder.name == FILE:
        folder = folder.parent
    results = Results.load(folder)
    pictures = draw(results, folder)
    page = write_atomically(folder / "report.html", render(results, pictures).encode())
    print("\n".join(f"Picture: {path}" for path in pictures.values()))
    print(f"Report: {page}")


def draw(results: Results, folder: Path) -> dict[str, Path]:
    """All pictures, by what they show."""
    from rlsched.experiments.plots.evaluation import plot_cases, plot_profiles, plot_ranking, plot_speed_ups

    methods = results.methods()
    names = headline(methods)
    pictures = {
        "ranking": plot_ranking([row for row in results.rows if row.tasks == "all"], folder / "ranking.png"),
        "profiles": plot_profiles(methods, names, folder / "profiles.png"),
        "speed_ups": plot_speed_ups(methods, names, folder / "speed_ups.png"),
    }
    for name, found in cases(results, methods).items():
        shown = [(f"{case.title}: {case.ratio:+.2f}", case.policy, case.linear) for case in found]
        pictures[name] = plot_cases(shown, folder / f"{name}.png")
    return pictures


def headline(methods: dict[str, Method]) -> list[str]:
    """The methods that are drawn as curves: the policy from the usual learning rate, and its strongest rivals."""
    mine = [name for name, method in methods.items() if method.kind == "policy" and name.endswith("base x1")]
    rivals = [name for name in ("linear", "cosine", BEST_CURRICULUM, "Schedule-Free") if name in methods]
    return mine + rivals


def cases(results: Results, methods: dict[str, Method]) -> dict[str, list[Case]]:
    """Typical, best and worst tasks of the policy that does most, from the usual base learning rate."""
    name = [each for each in headline(methods) if methods[each].kind == "policy"][-1]
    ratios = log_ratios(methods[name], methods[BEST_TUNED]).mean(axis=1)
    order = np.argsort(ratios, kind="stable")
    count = min(CASES, len(order))
    middle = len(order) // 2 - count // 2
    chosen = {"best": order[:count], "typical": order[middle : middle + count], "worst": order[::-1][:count]}
    return {
        sort: [_case(results, methods, name, int(task), float(ratios[task])) for task in tasks]
        for sort, tasks in chosen.items()
    }


def losses(results: Results, methods: dict[str, Method], count: int = 15) -> list[Case]:
    """The tasks on which the policy loses most, worst first."""
    name = [each for each in headline(methods) if methods[each].kind == "policy"][-1]
    ratios = log_ratios(methods[name], methods[BEST_TUNED]).mean(axis=1)
    found = [int(task) for task in np.argsort(-ratios, kind="stable")[:count] if ratios[task] > TIE]
    return [_case(results, methods, name, task, float(ratios[task])) for task in found]


def render(results: Results, pictures: dict[str, Path]) -> str:
    """The page."""
    import jinja2

    methods = results.methods()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        resources.files("rlsched.experiments").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    kinds = list(dict.fromkeys(row.tasks for row in results.rows))
    embedded = {name: base64.b64encode(path.read_bytes()).decode() for name, path in pictures.items()}
    return template.render(
        suite=results.suite,
        count=len(results.tasks),
        made_with=results.made_with,
        pictures=embedded,
        all_rows=_sorted(row for row in results.rows if row.tasks == "all"),
        curricula=_sorted(row for row in results.rows if row.tasks == "all" and row.kind == "curriculum"),
        kinds=kinds,
        by_kind=_by_kind(results.rows, kinds),
        losses=losses(results, methods),
        reference=BEST_TUNED,
        seeds=1 + max(run.seed for run in results.runs if run.role == "report"),
    )


def _sorted(rows: Any) -> list[Row]:
    return sorted(rows, key=lambda row: row.log_ratio.value)


def _by_kind(rows: Sequence[Row], kinds: Sequence[str]) -> list[tuple[str, list[Row | None]]]:
    """Method -> its row for each kind of task, for what is not a single curriculum."""
    table = {(row.method, row.tasks): row for row in rows}
    names = dict.fromkeys(row.method for row in rows if row.kind != "curriculum" and row.method != BEST_TUNED)
    mine = sorted(names, key=lambda name: not name.startswith("rlsched"))
    return [(name, [table.get((name, kind)) for kind in kinds]) for name in mine]


def _case(results: Results, methods: dict[str, Method], name: str, task: int, ratio: float) -> Case:
    about = results.tasks[task]
    config = about["config"]
    return Case(
        ratio,
        f"{about['family']}, {config['optimizer']}, {config['num_steps']} steps",
        ", ".join(kind for kind in about["kinds"] if kind != "all"),
        methods[name].reports[task, 0],
        methods["linear"].reports[task, 0],
    )
