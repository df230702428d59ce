"""Two real processes that train one model together."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import rank_script


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """(ranks, kind) -> what each rank saw, in runs of 1 and of 2 processes."""
    folder = tmp_path_factory.mktemp("ranks")
    found = {}
    for size in (1, 2):
        store = folder / f"store-{size}"
        command = [sys.executable, "-m", "tests.rank_script", str(store), str(size), str(folder)]
        processes = [
            subprocess.Popen(
                [*command, str(rank)], cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, text=True
            )
            for rank in range(size)
        ]
        for process in processes:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
        for kind in rank_script.KINDS:
            found[size, kind] = [
                torch.load(folder / f"{kind}-{size}-{rank}.pt", weights_only=True) for rank in range(size)
            ]
    return found


@pytest.mark.parametrize("kind", rank_script.KINDS)
def test_all_ranks_decide_the_same_to_the_bit(outcomes, kind):
    one, other = outcomes[2, kind]
    assert len(set(one["rates"])) > 10
    assert one["rates"] == other["rates"]
    assert torch.equal(one["bucket_weights"], other["bucket_weights"])
    assert torch.equal(one["weights"], other["weights"])
    assert one["losses"] != other["losses"]


@pytest.mark.parametrize("kind", ["fixed", "online"])
def test_two_ranks_do_what_one_does_with_batches_of_twice_the_size(outcomes, kind):
    (alone,), pair = outcomes[1, kind], outcomes[2, kind]
    for step, batch in enumerate(alone["batches"]):
        assert sorted(pair[0]["batches"][step] + pair[1]["batches"][step]) == sorted(batch)
    np.testing.assert_allclose(pair[0]["rates"], alone["rates"], rtol=1e-4)
    np.testing.assert_allclose(pair[0]["bucket_weights"], alone["bucket_weights"], rtol=1e-3)


def test_no_example_goes_to_two_ranks_in_a_pass(outcomes):
    one, other = outcomes[2, "natural"]
    batches = rank_script.EXAMPLES // (2 * rank_script.BATCH)
    first_pass = list(itertools.chain(*one["batches"][:batches], *other["batches"][:batches]))
    assert len(set(first_pass)) == len(first_pass) == rank_script.EXAMPLES


def test_a_loss_that_fails_on_one_rank_alarms_all(outcomes):
    for seen in outcomes[2, "failing"]:
        assert seen["events"] == [[21, "non_finite_loss"]]


def test_probes_of_one_rank_are_those_of_all(outcomes):
    np.testing.assert_allclose(outcomes[2, "probed"][0]["bucket_losses"], [2.0, 1.0, 3.0, 40.0], rtol=1e-9)
    np.testing.assert_allclose(outcomes[2, "probed"][1]["bucket_losses"], [2.0, 1.0, 3.0, 40.0], rtol=1e-9)


def test_ranks_resume_bit_exactly(outcomes):
    for whole, resumed in zip(outcomes[2, "online"], outcomes[2, "resumed"], strict=True):
        assert resumed["rates"] == whole["rates"]
        assert resumed["batches"] == whole["batches"]
        assert torch.equal(resumed["weights"], whole["weights"])
