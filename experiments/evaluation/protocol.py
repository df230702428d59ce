"""The protocol: every comparator on every task of a suite, kept as it is computed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsched._files import write_atomically
from rlsched.agents.rollouts import NO_WEIGHTS, Backend, Setting
from rlsched.experiments.evaluation.comparators import Comparator
from rlsched.experiments.evaluation.job import MethodJob, Run
from rlsched.experiments.evaluation.suites import Group, Suite
from rlsched.policy import Policy, PolicyInterface

PROTOCOL = 1
"""Goes up when the same settings would give other runs, so that none are mixed up."""

MakeBackend = Callable[[Setting], Backend]


@dataclass(frozen=True)
class Evaluation:
    """What is compared, on what.

    Attributes:
        suite: the tasks.
        comparators: on all of them.
        policies: family of the suite -> the policy for its tasks; those of "" are for all others.
        reports: seeds that results are reported on.
        folder: where every job's runs are kept, in a file named by their content: what is there is not done again.
    """

    suite: Suite
    comparators: Sequence[Comparator]
    policies: Mapping[str, Policy]
    reports: int
    folder: Path

    def run(self, backend: MakeBackend, done: Callable[[int, int], None] = lambda count, total: None) -> list[Run]:
        """All runs, in order of tasks and comparators; `done` is told how many jobs are, of how many."""
        jobs = [
            (number, group, MethodJob(group.configs, comparator, group.seed, self.reports))
            for number, group in self._numbered()
            for comparator in self.comparators
            if all(comparator.fits(config) for config in group.configs)
        ]
        missing = [each for each in jobs if not self._file(each[1], each[2]).exists()]
        finished = len(jobs) - len(missing)
        done(finished, len(jobs))
        for policy in dict.fromkeys(self._digest_of(group) for _, group, _ in missing):
            # The dearest first, so that no worker waits long for the others.
            mine = sorted(
                (each for each in missing if self._digest_of(each[1]) == policy), key=lambda each: -_cost(each[2])
            )
            loaded = self._policy(mine[0][1])
            setting = Setting(self.suite.tasks, loaded.interface if loaded else PolicyInterface(), "eager")

            def keep(number: int, runs: list[Run], mine: list[tuple[int, Group, MethodJob]] = mine) -> None:
                nonlocal finished
                _, group, job = mine[number]
                plain = [dataclasses.asdict(run) for run in runs]
                write_atomically(self._file(group, job), json.dumps(plain, allow_nan=False).encode())
                finished += 1
                done(finished, len(jobs))

            with backend(setting) as workers:
                workers.run([job for _, _, job in mine], dict(loaded.tensors) if loaded else NO_WEIGHTS, keep)
        return [run for number, group, job in jobs for run in self._load(number, group, job)]

    def _numbered(self) -> list[tuple[int, Group]]:
        """Every group, with the number of its first task."""
        found, number = [], 0
        for group in self.suite.groups:
            found.append((number, group))
            number += len(group.configs)
        return found

    def _policy(self, group: Group) -> Policy | None:
        return self.policies.get(group.family, self.policies.get(""))

    def _digest_of(self, group: Group) -> str:
        policy = self._policy(group)
        return "" if policy is None else digest(policy)

    def _file(self, group: Group, job: MethodJob) -> Path:
        """Where the runs of `job` are: named by all that they depend on."""
        about = [PROTOCOL, self.suite.content, [repr(config) for config in job.configs], job.comparator.content]
        about += [job.seed, job.reports, self._digest_of(group) if job.comparator.learned else ""]
        return self.folder / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}.json"

    def _load(self, number: int, group: Group, job: MethodJob) -> list[Run]:
        found: list[dict[str, Any]] = json.loads(self._file(group, job).read_bytes())
        return [Run(**(run | {"task": number + run["task"]})) for run in found]


def digest(policy: Policy) -> str:
    """What identifies a policy's behaviour: its tensors and how its actions are decoded."""
    found = hashlib.sha256(repr(policy.metadata.action).encode())
    for name in sorted(policy.tensors):
        found.update(name.encode() + policy.tensors[name].tobytes())
    return found.hexdigest()[:32]


def _cost(job: MethodJob) -> float:
    config = job.configs[0]
    eager = {"library": 4.0, "driver": 20.0}.get(job.comparator.kind, 1.0)
    return eager * len(job.comparator.factors) * config.num_steps
