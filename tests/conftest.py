"""Fixtures that several files share."""

import logging
import os

import pytest

from tests.trainings import AHEAD, SMALL, Run, run

# Ray's workers give way to everything else that runs: beside another test they would hardly get on. And Ray starts
# one for every core before any is asked for, in vain, as ours have an environment of their own. This holds for all
# processes that tests start.
os.environ.update(RAY_worker_niceness="0", RAY_prestart_worker_first_driver="0")

SLOW = ("test_docs", "test_ray", "test_training", "test_train_command", "test_units")
"""Files, by the beginning of their names, of which one that begins last would keep one process waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first; otherwise as they were."""
    items.sort(key=lambda item: not item.path.name.startswith(SLOW))


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray of our own with eight places, as if the caller had started it; starting one takes seconds."""
    ray = pytest.importorskip("ray")
    ray.init(
        "local", num_cpus=8, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    """A training that nothing stopped."""
    return run(SMALL, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def whole_ahead(tmp_path_factory) -> Run:
    """The same with units that overlap the updates."""
    return run(AHEAD, tmp_path_factory.mktemp("ahead") / "run")
