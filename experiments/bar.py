"""The progress of a training, in one line."""

from __future__ import annotations

import math
import time

from tqdm import tqdm

from rlsched.agents import Progress


class TrainingBar:
    """Shows `Progress`: the stage, its steps, the time left in it, and the score against the baselines.

    Use it as a context, and as the `report` of a training.
    """

    def __init__(self) -> None:
        self._stage = ""
        self._changed = time.time()
        # The steps of a stage differ in length, so their mean over the stage is the best guess (no smoothing).
        self._bar = tqdm(
            total=1,
            desc="starting",
            bar_format="{desc} {n_fmt}/{total_fmt} {bar} {remaining} left{postfix}",
            dynamic_ncols=True,
            smoothing=0.0,
            mininterval=0.5,
        )

    def __call__(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            self._begin(progress)
        self._bar.set_postfix_str(scores(progress), refresh=False)
        self._bar.update(progress.done - self._bar.n)
        self._changed = time.time()

    def __enter__(self) -> TrainingBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def _begin(self, progress: Progress) -> None:
        resumed = not self._stage and progress.done > 0
        self._stage = progress.stage
        self._bar.set_description_str(progress.stage, refresh=False)
        self._bar.reset(total=progress.total)
        # What was done by a training before it was stopped took no time of ours; what else is done by the first
        # report of a stage took the time since the last report.
        self._bar.initial = self._bar.n = progress.done if resumed else 0
        self._bar.start_t = self._bar.last_print_t = self._changed
        self._bar.refresh()


def scores(progress: Progress) -> str:
    """The score, the best one, and those of the baselines, as far as they are known; lower is better."""
    latest = {"score": progress.score}
    others = {"best": progress.best, "default": progress.default, "tuned": progress.tuned}
    parts = [_known(latest), _known(others)]
    return " ".join((parts[0], f"({parts[1]})") if all(parts) else parts).strip()


def _known(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.2f}" for name, value in values.items() if math.isfinite(value))
