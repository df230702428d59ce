"""How a training went, read from the scalars that it logged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlsched.agents import TrainConfig
from rlsched.contract import Array


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The evaluations of a training.

    Attributes:
        iterations: (E,) of PPO before each evaluation; 0 for the warm start.
        scores: (E,) of the policy; see `evaluation/score` in docs/metrics.md. Lower is better.
        default: score of the best single default.
        tuned: score of linear decay tuned per task.
        decisions: of an iteration.
    """

    iterations: Array
    scores: Array
    default: float
    tuned: float
    decisions: int


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value, of all TensorBoard files in `folder`.

    Where a training was stopped and resumed, a step may have been logged twice: the later one counts.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def read_learning_curve(folder: Path, config: TrainConfig) -> LearningCurve:
    """The curve of the training with `config` that logged to `folder`."""
    scalars = read_scalars(folder)
    decisions = config.rollouts.units * config.rollouts.slots * config.rollouts.decisions
    # The steps of PPO are decisions, those of the warm start its few rounds.
    scores = {step // decisions: value for step, value in sorted(scalars["evaluation/score"].items())}
    default, tuned = (
        list(scalars[f"evaluation/{name}"].values())[-1] for name in ("best_default", "tuned_linear")
    )
    return LearningCurve(np.array(list(scores)), np.array(list(scores.values())), default, tuned, decisions)
