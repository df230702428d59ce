"""Jobs for the tests of backends, well-behaved and not."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlsched.agents.rollouts import Setting
from rlsched.envs.tasks import Digits
from rlsched.policy import PolicyInterface

SETTING = Setting(Digits(min_steps=60, max_steps=70, max_batch=32), PolicyInterface())
WEIGHTS = {"scale": np.linspace(0.5, 1.5, 5)}


@dataclass(frozen=True)
class Train:
    """Trains a few runs for a few decisions."""

    seed: int

    def run(self, setting, weights):
        rng = np.random.default_rng(self.seed)
        first = setting.tasks.sample(rng)
        tasks = [setting.tasks.build(setting.tasks.sample_like(rng, first)) for _ in range(3)]
        population = setting.population(tasks)
        population.reset([self.seed + row for row in range(3)])
        scale = np.tile(weights["scale"], (3, 1))
        shares = population.spec.bucket_shares
        windows = [population.advance(np.full(3, 5), scale, shares) for _ in range(3)]
        return {"loss": np.stack([window.loss for window in windows]), "validation": population.validation_loss()}


@dataclass(frozen=True)
class Waiting:
    """A job that says which process does it, and waits to be told to go on."""

    folder: Path
    seed: int

    def run(self, setting, weights):
        (self.folder / f"{os.getpid()}.pid").touch()
        while not (self.folder / "go").exists():
            time.sleep(0.02)
        return Train(self.seed).run(setting, weights)


@dataclass(frozen=True)
class Once:
    """A job that goes wrong the first time: `how` is "kill", "hang" or "raise"."""

    marker: Path
    how: str
    seed: int = 0

    def run(self, setting, weights):
        if not self.marker.exists():
            self.marker.write_text(str(os.getpid()))
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.how == "hang":
                time.sleep(3600)
            raise RuntimeError("only now")
        return Train(self.seed).run(setting, weights)


@dataclass(frozen=True)
class Killing:
    """A job that kills whoever does it."""

    def run(self, setting, weights):
        os.kill(os.getpid(), signal.SIGKILL)


class OwnError(Exception):
    """One whose pickle cannot be read: its arguments differ from what it passes on."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


@dataclass(frozen=True)
class Raising:
    """A job with a mistake in it; with `own`, of an exception that does not survive pickling."""

    own: bool = False

    def run(self, setting, weights):
        if self.own:
            raise OwnError("this", "that")
        return weights["no such key"]


class Unreadable:
    """Something that can be sent, but not received."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ImportError("no module named 'theirs'")


def same(found, expected):
    """Whether results are equal to the last bit."""
    return len(found) == len(expected) and all(
        one.keys() == other.keys()
        and all(one[key].dtype == other[key].dtype and one[key].tobytes() == other[key].tobytes() for key in one)
        for one, other in zip(found, expected, strict=True)
    )
