"""The experiment on what telemetry tells of the learning rate."""

import json

import numpy as np
import pytest

from rlsched.agents.imitation.search import GRID
from rlsched.experiments.importance import GROUPS
from rlsched.experiments.information import CONSTANT, SHARES, Sightings, SightingUnit, errors, main
from rlsched.observation import RUN_NAMES
from tests.families import TINY
from tests.imitations import setting

F = len(RUN_NAMES)


def invented(told: str, groups: int = 24, tasks: int = 2) -> list[Sightings]:
    """The feature called `told` says how far the learning rate is off, the others are noise."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(groups):
        off = np.clip(rng.uniform(-1.0, 1.0, (tasks, 1)) - np.array(GRID), -2.0, 2.0)
        seen = rng.standard_normal((len(SHARES), tasks, len(GRID), F))
        seen[..., RUN_NAMES.index(told)] = off
        found.append(Sightings(seen, off))
    return found


def test_what_tells_is_missed_and_what_is_noise_is_not():
    sightings = invented("first_order")
    told, noise = ["first_order", "loss_noise"], ["loss_noise", "grad_spread"]
    with_it, without = (errors(sightings, 0, names) for names in (told, noise))
    assert with_it.shape == (48,)
    assert with_it.mean() < 0.45
    assert without.mean() > 0.8, "as large as the spread itself"


def test_trees_are_judged_on_tasks_of_other_groups():
    """A feature that names the group is of no use."""
    sightings, rng = invented("first_order"), np.random.default_rng(1)
    for number, each in enumerate(sightings):
        each.seen[..., RUN_NAMES.index("loss_noise")] = number
        each.off[:] = rng.uniform(-2.0, 2.0)  # the same in the whole group
    assert errors(sightings, 0, ["loss_noise"]).mean() > 0.5


def test_runs_that_diverged_are_left_out():
    sightings = invented("first_order")
    sightings[0].seen[0, 0] = np.nan
    sightings[0].seen[0, 1, 0] = np.nan
    found = errors(sightings, 0, ["first_order"])
    assert np.isnan(found).tolist() == [True] + [False] * 47


def test_runs_are_of_every_learning_rate_and_looked_at_when_due():
    found = SightingUnit(2, 3).run(setting(), {})
    assert found.seen.shape == (len(SHARES), 3, len(GRID), F)
    assert (np.diff(found.off, axis=1) <= 0).all(), (
        "the higher a learning rate, the further below it the best one is"
    )
    assert (np.abs(found.off) <= 2.0).all()
    progress = found.seen[..., RUN_NAMES.index("progress")]
    for share, values in zip(SHARES, progress, strict=True):
        assert np.nanmin(values) >= share
    assert not np.nanmax(np.abs(found.seen[..., RUN_NAMES.index("log_scale")]))


def test_groups_that_say_nothing_are_known():
    assert set(GROUPS) > CONSTANT


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rlsched.experiments.information.FAMILIES", {"tiny": lambda: TINY})
    assert main(tmp_path, family="tiny", groups=2, group_tasks=1) == 0
    shown = (tmp_path / "information.md").read_text()
    assert "first-order change" in shown
    assert "own past" not in shown
    assert len(json.loads((tmp_path / "information.json").read_text())["sightings"]) == 2
    with pytest.raises(ValueError, match="family must be one of"):
        main(tmp_path, family="wombat")
