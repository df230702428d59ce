"""A family's tasks over their natural mixture."""

import dataclasses

import numpy as np
import pytest

from rlsched.agents.imitation import SearchUnit
from rlsched.agents.rollouts import RolloutUnit, Setting
from rlsched.envs.tasks import Digits, Mixture, Natural, Quadratics, Tabular, Teacher
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES
from rlsched.policy import PolicyInterface
from tests.families import TINY, exploring
from tests.policies import random_policy

FAMILIES = [Digits(), Mixture([Teacher(num_buckets=3), Tabular(num_buckets=3)])]


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_a_task_differs_from_the_familys_in_its_curriculum_alone(family):
    natural = Natural(family)
    assert natural.num_buckets == family.num_buckets
    first, with_curriculum = family.sample(np.random.default_rng(0)), 0
    for seed in range(20):
        for method, arguments in (("sample", ()), ("sample_like", (first,))):
            theirs = getattr(family, method)(np.random.default_rng(seed), *arguments)
            mine = getattr(natural, method)(np.random.default_rng(seed), *arguments)
            assert mine == dataclasses.replace(theirs, curriculum=False)
            assert natural.sensible_lr(mine) == family.sensible_lr(theirs)
            with_curriculum += theirs.curriculum
    assert with_curriculum > 10


def test_it_builds_what_the_family_does():
    natural = Natural(TINY)
    config = natural.sample(np.random.default_rng(0))
    assert natural.builds(config)
    assert not natural.builds(Quadratics().sample(np.random.default_rng(0)))
    mine, theirs = natural.build(config), TINY.build(config)
    assert mine.config == config
    np.testing.assert_array_equal(mine.train.tensors[0], theirs.train.tensors[0])  # type: ignore[attr-defined]
    np.testing.assert_array_equal(mine.buckets.ids, theirs.buckets.ids)


def test_two_of_them_differ_where_their_families_do():
    assert repr(Natural(TINY)) != repr(Natural(Digits()))
    assert repr(Natural(TINY)) != repr(TINY)


def test_no_policy_is_shown_buckets_nor_taught_to_weigh_them():
    setting = Setting(Natural(TINY), PolicyInterface())
    rollout = RolloutUnit(2, 3, 10).run(setting, exploring(random_policy(0).tensors))
    assert not rollout.observations[:, :, len(RUN_FEATURES) :].any()
    assert rollout.observations.shape[2] == len(RUN_FEATURES) + 4 * len(BUCKET_FEATURES)
    tuned = SearchUnit(2, 3).run(setting, {})
    np.testing.assert_array_equal(tuned.curricula, np.eye(1, tuned.curricula.shape[1]).repeat(3, axis=0))
