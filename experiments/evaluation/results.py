"""The file of an evaluation's results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsched._check import ArgumentError
from rlsched._files import write_atomically
from rlsched.experiments.evaluation.figures import Row, rows, subsets
from rlsched.experiments.evaluation.job import Run
from rlsched.experiments.evaluation.methods import Method, methods
from rlsched.experiments.evaluation.suites import Suite

SCHEMA = 1
FILE = "results.json"


@dataclass(frozen=True, eq=False)
class Results:
    """All there is to report. The schema of the file is in docs/evaluation.md.

    Attributes:
        suite: name of it.
        made_with: versions, seed and policies.
        tasks: what each task was: "family", "group", "kinds", and its "config".
        kinds_of: kind of each method that was run, by name.
        rows: the figures.
        runs: every run.
    """

    suite: str
    made_with: dict[str, Any]
    tasks: list[dict[str, Any]]
    kinds_of: dict[str, str]
    rows: list[Row]
    runs: list[Run]

    @classmethod
    def gather(
        cls, suite: Suite, made_with: dict[str, Any], kinds_of: Mapping[str, str], runs: Sequence[Run]
    ) -> Results:
        """The figures of `runs` on `suite`, by methods of the kinds `kinds_of`."""
        configs, families, groups = suite.configs, suite.families, suite.numbers
        found = methods(runs, kinds_of, len(configs))
        of = subsets(configs, families)
        tasks = [
            {
                "family": family,
                "group": group,
                "kinds": [name for name, members in of.items() if number in members],
                "config": dataclasses.asdict(config),
            }
            for number, (family, group, config) in enumerate(zip(families, groups, configs, strict=True))
        ]
        table = rows(found, runs, configs, families, groups)
        return cls(suite.name, made_with, tasks, dict(kinds_of), table, list(runs))

    def methods(self) -> dict[str, Method]:
        """By name; see `methods.methods`."""
        return methods(self.runs, self.kinds_of, len(self.tasks))

    def save(self, folder: Path) -> Path:
        """Write the file into `folder`."""
        check_free(folder, self.suite)
        plain = {
            "schema": SCHEMA,
            "suite": self.suite,
            "made_with": self.made_with,
            "tasks": self.tasks,
            "methods": self.kinds_of,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "runs": [{name: value for name, value in vars(run).items() if value != []} for run in self.runs],
        }
        return write_atomically(folder / FILE, json.dumps(plain, separators=(",", ":"), allow_nan=False).encode())

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read the file in `folder`.

        Raises:
            FileNotFoundError: there is none.
            ArgumentError: it is of another schema, or damaged.
        """
        path = folder / FILE
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}: run rlsched evaluate --out {folder} first.")
        try:
            plain = json.loads(path.read_bytes())
            if plain["schema"] != SCHEMA:
                raise ArgumentError(f"{path} has schema {plain['schema']}, this version reads {SCHEMA}.")
            table = [Row.of(row) for row in plain["rows"]]
            found = [Run(**run) for run in plain["runs"]]
            return cls(plain["suite"], plain["made_with"], plain["tasks"], plain["methods"], table, found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ArgumentError):
                raise
            raise ArgumentError(f"{path} is damaged ({error}): evaluate again, with the same --out.") from error


def check_free(folder: Path, suite: str) -> None:
    """Refuse a folder that holds the results of another suite."""
    if (folder / FILE).exists() and Results.load(folder).suite != suite:
        raise ArgumentError(
            f"out must be a folder without results of another suite, {folder} has those of "
            f"{Results.load(folder).suite!r}: give another."
        )
