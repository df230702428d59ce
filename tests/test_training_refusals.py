"""Trainings that cannot be begun or continued say why."""

import dataclasses
import os
from typing import Any

import numpy as np
import pytest
import torch

from rlsched.action import ActionSpec
from rlsched.agents import (
    EvaluationSettings,
    PPOSettings,
    TaskSettings,
    TrainConfig,
    WarmStart,
    train,
)
from rlsched.envs.tasks import Digits, DigitsConfig
from tests.families import TINY
from tests.trainings import BRIEF, SMALL, Stop, run


def test_a_folder_that_holds_a_run_is_not_overwritten(whole):
    with pytest.raises(FileExistsError, match=r"holds a training run: pass --resume to continue it"):
        train(SMALL, whole.out, tasks=TINY)


def test_resuming_is_refused_where_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint to resume from: start without --resume"):
        train(BRIEF, tmp_path / "none", tasks=TINY, resume=True)

    def stop(progress):
        raise Stop

    with pytest.raises(Stop):
        train(BRIEF, tmp_path / "early", tasks=TINY, report=stop)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        train(BRIEF, tmp_path / "early", tasks=TINY, resume=True)
    # There is nothing to lose: it may start anew.
    train(BRIEF, tmp_path / "early", tasks=TINY)


def test_resuming_with_other_settings_is_refused_and_says_which(whole):
    other = dataclasses.replace(
        SMALL, seed=3, ppo=dataclasses.replace(SMALL.ppo, iterations=9), action=ActionSpec(max_move=0.5)
    )
    wanted = (
        r"other settings of action.max_move \(was 0.7, now 0.5\), ppo.iterations \(was 3, now 9\), "
        r"seed \(was 0, now 3\): resume it with those, or give another --out"
    )
    with pytest.raises(ValueError, match=wanted):
        train(other, whole.out, tasks=TINY, resume=True)
    with pytest.raises(ValueError, match=r"other settings of distribution \(was Digits\(.*now Digits\("):
        train(SMALL, whole.out, tasks=dataclasses.replace(TINY, max_steps=19), resume=True)


def test_damaged_files_are_refused_with_the_remedy(tmp_path):
    out = tmp_path / "run"
    run(BRIEF, out)
    whole = (out / "checkpoint.pt").read_bytes()
    for damaged in (b"PK\x03\x04 not a checkpoint", whole[: len(whole) // 2], b""):
        (out / "checkpoint.pt").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cannot resume from .*start afresh in another folder"):
            train(BRIEF, out, tasks=TINY, resume=True)
    (out / "checkpoint.pt").write_bytes(whole)
    (out / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged .*start afresh in another folder"):
        train(BRIEF, out, tasks=TINY, resume=True)


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    out = tmp_path / "run"
    run(BRIEF, out)
    torch.save({"policy": Bomb()}, out / "checkpoint.pt")
    with pytest.raises(ValueError, match="cannot resume from"):
        train(BRIEF, out, tasks=TINY, resume=True)
    assert not (tmp_path / "exploded").exists()


def test_episodes_longer_than_a_rollout_are_refused(tmp_path):
    class Long(Digits):
        def sample(self, rng: np.random.Generator) -> DigitsConfig:
            return dataclasses.replace(super().sample(rng), num_steps=300, num_decisions=150)

    with pytest.raises(ValueError, match=r"num_decisions must be at most 10 in every task, got 150: raise"):
        train(BRIEF, tmp_path / "run", tasks=Long())
    assert not (tmp_path / "run").exists()


def test_what_is_no_family_of_tasks_is_refused(tmp_path):
    tasks: Any = Digits
    with pytest.raises(TypeError, match="tasks must be a TaskFamily, got the class Digits"):
        train(BRIEF, tmp_path / "run", tasks=tasks)


def test_configs_name_the_field_that_is_wrong():
    for make, fields, words in (
        (PPOSettings, {"iterations": -1}, "iterations must be an integer >= 0, got -1"),
        (PPOSettings, {"learning_rate": -1.0}, "learning_rate must be a finite number"),
        (PPOSettings, {"gae_lambda": 2.0}, "gae_lambda must be a finite number in"),
        (PPOSettings, {"minibatch": 1}, "minibatch must be an integer >= 2, got 1"),
        (EvaluationSettings, {"every": 0}, "every must be an integer >= 1, got 0"),
        (TaskSettings, {"family": "x"}, "family must be one of"),
        (TaskSettings, {"unstackable": "x"}, "unstackable must be one of eager, refuse"),
        (WarmStart, {"rounds": 0}, "rounds must be an integer >= 1, got 0"),
        (WarmStart, {"groups": -1}, "groups must be an integer >= 0, got -1"),
        (TrainConfig, {"seed": -1}, r"seed must be an integer in \[0, 4294967295\], got -1"),
        (
            TrainConfig,
            {"ppo": PPOSettings(minibatch=30)},
            r"must divide units x slots x decisions \(12800\)",
        ),
        (
            TrainConfig,
            {"warm_start": WarmStart(groups=0), "ppo": PPOSettings(iterations=0)},
            "iterations must be at least 1 without a warm start",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            make(**fields)


@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 2**70])
def test_a_large_seed_is_used_or_refused_by_name(tmp_path, seed):
    """Stable-baselines3 seeds generators that take 32 bits."""
    try:
        config = dataclasses.replace(BRIEF, seed=seed)
    except ValueError as error:
        assert "seed must be an integer in" in str(error)  # noqa: PT017
        return
    run(config, tmp_path / "run")


# Learning
