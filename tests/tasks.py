"""Settings and tasks of every family, for tests of them."""

import dataclasses
import functools

import numpy as np
import torch

from rlsched.envs.tasks import (
    FAMILIES,
)

DATA = sorted(set(FAMILIES) - {"broad", "quadratics", "continual", "quick", "short", "wide", "practice"})
LEAVES = [*DATA, "quadratics", "continual"]
CLEAN = {
    "label_noise": 0.0, "noisy_validation": False, "imbalance": 1.0, "duplicates": 0.0, "domain_skew": 0.0,
    "drift": 0.0, "bucket_by": "difficulty", "probed": False,
}  # fmt: skip


def family_of(name, **settings):
    return FAMILIES[name](**settings)


@functools.cache
def _configs(name, count=10):
    rng = np.random.default_rng(5)
    return [family_of(name).sample(rng) for _ in range(count)]


def configs(name):
    return _configs(name)


def clean(name, index=0, **changes):
    """A task of the family with nothing the matter but `changes`."""
    config = dataclasses.replace(configs(name)[index], **CLEAN | {"num_examples": 1000} | changes)
    return family_of(name).build(config)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def np_state():
    return np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002


def tensors_of(task):
    parts = [*task.train.tensors, *task.validation, *task.test]
    parts += [] if task.drifted is None else task.drifted.tensors
    return [*parts, torch.from_numpy(task.buckets.ids), *task.make_model(generator()).parameters()]


def same(one, other):
    pairs = list(zip(tensors_of(one), tensors_of(other), strict=False))
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def rows(batch):
    """Examples as bytes, by their inputs."""
    return [row.tobytes() for row in batch[0].numpy()]
