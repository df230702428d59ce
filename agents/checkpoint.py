"""Local checkpoints of a training run: tensors and plain numbers, written atomically, read without pickle."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from rlsched import _check
from rlsched._files import write_atomically
from rlsched.agents.ppo import SchedulePPO


def save_checkpoint(path: Path, model: SchedulePPO, extra: dict[str, Any]) -> None:
    """Write everything that the iterations to come depend on, with `extra` (tensors and plain values)."""
    buffer = io.BytesIO()
    state = {
        "num_timesteps": model.num_timesteps,
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "extra": extra,
    }
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, model: SchedulePPO) -> dict[str, Any]:
    """Put `model` where `save_checkpoint` left it; returns its `extra`.

    Raises ValueError, with the remedy, if the file is damaged or of another network.
    """
    try:
        state = torch.load(path, weights_only=True)
        model.policy.load_state_dict(state["policy"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        model.num_timesteps = state["num_timesteps"]
        extra: dict[str, Any] = state["extra"]
    except Exception as error:
        raise _check.ArgumentError(
            f"cannot resume from {path} ({type(error).__name__}: {error}): start afresh in another folder."
        ) from error
    return extra
