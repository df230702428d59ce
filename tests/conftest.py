"""Fixtures that several files share."""

import logging

import pytest

from tests.trainings import AHEAD, SMALL, Run, run


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray of our own with eight places, as if the caller had started it; starting one takes seconds."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Ray's workers give way to everything else that runs: on a busy machine they might never be done.
        patch.setenv("RAY_worker_niceness", "0")
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
