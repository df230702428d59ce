"""What a policy relies on."""

import json

import numpy as np

from rlsched.experiments import cli
from rlsched.experiments.importance import GROUPS, without
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES
from tests.policies import random_policy

NAMES = [feature.name for feature in RUN_FEATURES] + [f"bucket {feature.name}" for feature in BUCKET_FEATURES]


def test_the_groups_hold_every_observation_once_but_the_flag_of_a_curriculum():
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(set(NAMES) - {"curriculum"})


def test_a_policy_is_blind_to_what_it_is_not_shown_and_to_nothing_else():
    policy = random_policy(0)
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((50, len(NAMES))).astype(np.float32)
    for hidden in ("loss_noise", "bucket difficulty"):
        blind = without(policy, (hidden,))
        for at, name in enumerate(NAMES):
            changed = seen.copy()
            changed[:, at] += rng.standard_normal(50)
            differs = not np.array_equal(blind.act(changed), blind.act(seen))
            assert differs == (name != hidden), (hidden, name)
    mean = seen.copy()
    mean[:, NAMES.index("loss_noise")] = policy.tensors["normalizer.run_mean"][NAMES.index("loss_noise")]
    np.testing.assert_array_equal(without(policy, ("loss_noise",)).act(seen), policy.act(mean))


def test_the_command_says_what_matters(tmp_path, capsys):
    policy = random_policy(0, gain=3.0).save(tmp_path / "policy.safetensors")
    flags = ["--tasks.family", "quick", "--groups", "2", "--json", str(tmp_path / "found.json")]
    assert cli.main(["importance", str(policy), *flags]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in GROUPS)
    rows = json.loads((tmp_path / "found.json").read_text())
    assert {row["without"] for row in rows} == set(GROUPS)
    everywhere = {row["without"]: row["worse_by"]["value"] for row in rows if row["tasks"] == "all"}
    assert everywhere["own past"] != 0
