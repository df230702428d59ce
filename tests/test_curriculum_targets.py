"""The experiment on what curricula could teach: who is chosen, who judges, and that it runs."""

import numpy as np
import pytest

from rlsched.action import ActionSpec
from rlsched.agents.imitation.search import draw_group
from rlsched.agents.rollouts import Setting
from rlsched.controllers.curriculum.fixed import curricula
from rlsched.experiments.curriculum_targets import FIELD, Contest, ContestUnit, gain, main, table
from rlsched.experiments.methods import find
from rlsched.policy import PolicyInterface
from tests.families import TINY


def test_one_seed_chooses_and_the_other_judges():
    """Natural, and two to choose from: seed 0 prefers the first, seed 1 the second."""
    losses = np.array([[[0.0, -0.5, -0.1, -9.0]], [[0.0, 0.2, -0.3, -9.0]]])
    found = gain(Contest(np.array([True]), losses), slice(1, 3))
    np.testing.assert_allclose(found, [[0.2, -0.1]])


def test_what_harms_is_not_chosen():
    found = gain(Contest(np.array([True]), np.full((2, 1, 3), 1.0) * [0.0, 1.0, 1.0]), slice(1, None))
    np.testing.assert_allclose(found, [[0.0, 0.0]])


def test_the_table_tells_wrong_labels_from_right_ones():
    losses = np.zeros((2, 4, 5))
    losses[:, :2, 1], losses[:, 2:, 4] = -1.0, -0.25
    shown = table([Contest(np.array([True, True, False, False]), losses)] * 2, fixed=3)
    lines = [[cell.strip().split(" ")[0] for cell in line.split("|")[2:-1]] for line in shown.splitlines()[2:]]
    assert lines == [["-1.000", "+0.000"], ["+0.000", "-0.250"], ["-1.000", "-0.250"]]


@pytest.fixture(scope="module")
def contest():
    return ContestUnit(3, 4).run(Setting(TINY, PolicyInterface(ActionSpec())), {})


def test_every_curriculum_is_run_on_every_steered_task(contest):
    configs, _ = draw_group(TINY, 3, 4)
    steered = [config for config in configs if config.curriculum]
    count = len(curricula(4)) + len(find(FIELD))
    assert contest.losses.shape == (2, len(steered), count)
    assert contest.noisy.tolist() == [vars(config)["label_noise"] > 0 for config in steered]
    np.testing.assert_array_equal(contest.losses[:, :, 0], 0.0)
    assert (contest.losses[:, :, 1:].std(axis=2) > 0).all()
    assert (contest.losses[0] != contest.losses[1]).any()


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rlsched.experiments.curriculum_targets.FAMILIES", {"tiny": lambda: TINY})
    assert main(tmp_path, family="tiny", groups=2, group_tasks=2) == 0
    assert "17 fixed curricula" in (tmp_path / "targets.md").read_text()
    assert (tmp_path / "targets.json").exists()
    with pytest.raises(ValueError, match="family must be one of"):
        main(tmp_path, family="wombat")


def test_a_family_without_curricula_is_refused(tmp_path):
    with pytest.raises(ValueError, match="family must have tasks with a curriculum, quadratics has none"):
        main(tmp_path, family="quadratics")
