"""All claims, and what came out of each: run in parallel, kept one by one."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlsched._check import ArgumentError
from rlsched._files import write_atomically
from rlsched.experiments.claims.claim import Claim, Pair
from rlsched.experiments.evaluation.statistics import Estimate
from rlsched.experiments.paired import paired, shown, verdict
from rlsched.experiments.spawned import spawned

AREAS = (
    "pacing", "mixing", "difficulty", "verifiable", "scores",
    "diffusion", "views", "replay", "averaging", "optimizers",
)  # fmt: skip
"""Modules with `CLAIMS`."""
OUTCOMES = {"holds": "helps", "not told": "not told", "is wrong here": "harms"}
"""What the verdict on a claim says of its method."""


@dataclass(frozen=True, eq=False)
class Tried:
    """A claim, and what came out of it."""

    claim: Claim
    pair: Pair

    @property
    def estimate(self) -> Estimate:
        """Mean over seeds of ln(method / plain), with its 95 % interval."""
        return paired(self.pair.method, self.pair.plain)

    @property
    def outcome(self) -> str:
        """One of the values of `OUTCOMES`."""
        return OUTCOMES[verdict(self.estimate)]

    @property
    def _failures(self) -> str:
        """Whose runs failed, and how many."""
        lost = {"the method": self.pair.method, self.claim.plain: self.pair.plain}
        counts = {name: int(np.isinf(losses).sum()) for name, losses in lost.items()}
        return "; ".join(f"{name} failed in {n} of {len(self.pair.plain)}" for name, n in counts.items() if n)

    @property
    def row(self) -> dict[str, str]:
        """For people."""
        claim, estimate = self.claim, self.estimate
        return {
            "method": f"`{claim.method}`",
            "task": claim.task,
            "against": claim.plain,
            "measure": claim.measure,
            "change": shown(estimate) if np.isfinite(estimate.value) else self._failures,
            "it": self.outcome,
        }


def claims_of(area: str) -> tuple[Claim, ...]:
    """Those of one of `AREAS`."""
    found: tuple[Claim, ...] = importlib.import_module(f"rlsched.experiments.claims.{area}").CLAIMS
    return found


def choose(only: str) -> list[tuple[str, int]]:
    """Area and number of each claim of the methods or areas that `only` names, separated by commas; all of "".

    Raises:
        ArgumentError: it names something else.
    """
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    known = [(area, index, claim.method) for area in AREAS for index, claim in enumerate(claims_of(area))]
    unknown = wanted - {name for area, _, method in known for name in (area, method)}
    if unknown:
        raise ArgumentError(
            f"only must name methods with a claim, or areas ({', '.join(AREAS)}), got {sorted(unknown)}."
        )
    return [(area, index) for area, index, method in known if not wanted or wanted & {area, method}]


def try_all(chosen: Sequence[tuple[str, int]], seeds: int, folder: Path, workers: int) -> Iterator[Tried]:
    """Each of the `chosen`, as it is done. What `folder` has of as many seeds is not run again."""
    missing = []
    for area, index in chosen:
        claim = claims_of(area)[index]
        pair = _load(_file(folder, claim), seeds)
        if pair is None:
            missing.append((area, index))
        else:
            yield Tried(claim, pair)
    for (area, index, _), pair in spawned(_run, [(*which, seeds) for which in missing], workers):
        claim = claims_of(area)[index]
        _keep(_file(folder, claim), pair)
        yield Tried(claim, pair)


def _run(area: str, index: int, seeds: int) -> Pair:
    return claims_of(area)[index].run(range(seeds))


def _file(folder: Path, claim: Claim) -> Path:
    words = re.sub(r"[^a-z0-9]+", "-", f"{claim.method} {claim.task} {claim.plain}".lower()).strip("-")
    return folder / f"{words}.json"


def _keep(path: Path, pair: Pair) -> None:
    record = {"method": pair.method.tolist(), "plain": pair.plain.tolist()}
    write_atomically(path, json.dumps(record).encode())


def _load(path: Path, seeds: int) -> Pair | None:
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    pair = Pair(np.array(record["method"]), np.array(record["plain"]))
    return pair if len(pair.method) == seeds else None
