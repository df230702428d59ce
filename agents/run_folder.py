"""The folder of a training run: what lies where, and whose it is."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlsched
from rlsched import _check
from rlsched._files import write_atomically
from rlsched.agents.config import TrainConfig
from rlsched.envs.tasks import TaskFamily


@dataclass(frozen=True)
class RunFolder:
    """A claimed folder.

    Attributes:
        out: where it is.
        settings: what decides the result, and what it was made with, in plain values; as in `config.json`.
    """

    out: Path
    settings: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        """What the run can be resumed from."""
        return self.out / "checkpoint.pt"

    @property
    def policy(self) -> Path:
        """The best policy so far."""
        return self.out / "policy.safetensors"

    @property
    def tensorboard(self) -> Path:
        """Scalars."""
        return self.out / "tensorboard"

    @classmethod
    def claim(cls, out: Path, config: TrainConfig, tasks: TaskFamily, resume: bool) -> RunFolder:
        """The folder of a run with these settings; refuses one that does not fit."""
        settings = json.loads(json.dumps(dataclasses.asdict(config))) | {"distribution": repr(tasks)}
        stored = out / "config.json"
        folder = cls(out, settings | {"made_with": made_with()})
        if not resume:
            if folder.checkpoint.exists():
                raise FileExistsError(
                    f"{out} holds a training run: pass --resume to continue it, or another --out."
                )
            write_atomically(stored, json.dumps(folder.settings, indent=2).encode())
            return folder
        if not folder.checkpoint.exists() or not stored.exists():
            raise FileNotFoundError(f"{out} holds no checkpoint to resume from: start without --resume.")
        before = stored_settings(stored)
        for file in (folder.checkpoint, folder.policy, stored):
            for unfinished in out.glob(f".{file.name}.*"):  # by `write_atomically`, when the run was killed
                unfinished.unlink()
        check_same(out, before, settings)
        return folder


def stored_settings(stored: Path) -> dict[str, Any]:
    """What a `config.json` holds; ArgumentError if it is damaged."""
    try:
        return dict(json.loads(stored.read_text()))
    except (ValueError, TypeError) as error:
        raise _check.ArgumentError(f"{stored} is damaged ({error}): start afresh in another folder.") from error


def check_same(out: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """ArgumentError, naming what differs, unless the run in `out` was `stored` with the settings `wanted`."""
    before, settings = (_flat({k: v for k, v in each.items() if k != "made_with"}) for each in (stored, wanted))
    names = before.keys() | settings.keys()
    changed = sorted(name for name in names if before.get(name) != settings.get(name))
    if changed:
        listed = ", ".join(f"{name} (was {before.get(name)}, now {settings.get(name)})" for name in changed)
        raise _check.ArgumentError(
            f"{out} holds a run with other settings of {listed}: resume it with those, or give another --out."
        )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def made_with() -> dict[str, str]:
    """Versions, and the state of the checkout if it is one. For the record: they do not hinder a resume."""
    versions = {
        name: importlib.metadata.version(name) for name in ("numpy", "torch", "gymnasium", "stable-baselines3")
    }
    return {"rlsched": rlsched.__version__, "git": _git_state(), "python": platform.python_version(), **versions}


def _git_state() -> str:
    """The commit, with "-dirty" if files were changed; "unknown" outside a checkout."""
    here = Path(__file__).resolve()
    try:
        # An installed copy may lie in a repository that has nothing to do with it.
        _git(here, "ls-files", "--error-unmatch", here.name)
        return _git(here, "describe", "--always", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(file: Path, *arguments: str) -> str:
    command = ["git", "-C", str(file.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
