"""Local checkpoints of a training run: tensors and plain numbers, written atomically, read without pickle."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlsched import _check
from rlsched._files import write_atomically
from rlsched.agents.evaluation import Baselines
from rlsched.agents.imitation import Lesson, TunedGroup
from rlsched.agents.ppo import SchedulePPO


@dataclass
class State:
    """How far a training has come, beside its agent.

    Attributes:
        baselines: of the evaluation tasks, once measured.
        tuned: the tasks of the next round of the warm start, once searched for.
        lessons: one for each round so far; empty again after the warm start.
        warm: whether the warm start is over.
        score: by the latest evaluation, NaN before.
        best: the lowest score so far, NaN before.
    """

    baselines: Baselines | None = None
    tuned: list[TunedGroup] = field(default_factory=list)
    lessons: list[Lesson] = field(default_factory=list)
    warm: bool = False
    score: float = math.nan
    best: float = math.nan


def save_checkpoint(path: Path, model: SchedulePPO, state: State) -> None:
    """Write all that the rest of the training depends on. A write that fails leaves the last one as it was."""
    buffer = io.BytesIO()
    content = {
        "num_timesteps": model.num_timesteps,
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "behaviour": None if model.behaviour is None else _tensors(dict(model.behaviour)),
        "baselines": None if state.baselines is None else _tensors(vars(state.baselines)),
        "tuned": [_tensors(vars(group)) for group in state.tuned],
        "lessons": [_tensors(vars(lesson)) for lesson in state.lessons],
        "warm": state.warm,
        "score": state.score,
        "best": state.best,
    }
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, model: SchedulePPO) -> State:
    """Put `model` where `save_checkpoint` left it; returns the state.

    Raises ValueError, with the remedy, if the file is damaged or of another network.
    """
    try:
        found = torch.load(path, weights_only=True)
        model.policy.load_state_dict(found["policy"])
        model.policy.optimizer.load_state_dict(found["optimizer"])
        model.num_timesteps = found["num_timesteps"]
        model.behaviour = None if found["behaviour"] is None else _arrays(found["behaviour"])
        return State(
            baselines=None if found["baselines"] is None else Baselines(**_arrays(found["baselines"])),
            tuned=[TunedGroup(**_arrays(group)) for group in found["tuned"]],
            lessons=[Lesson(**_arrays(lesson)) for lesson in found["lessons"]],
            warm=found["warm"],
            score=found["score"],
            best=found["best"],
        )
    except Exception as error:
        raise _check.ArgumentError(
            f"cannot resume from {path} ({type(error).__name__}: {error}): start afresh in another folder."
        ) from error


def _tensors(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in arrays.items()}


def _arrays(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: v.numpy() if isinstance(v, torch.Tensor) else v for name, v in tensors.items()}
