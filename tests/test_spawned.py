"""Pieces of work in processes of their own."""

import os

import pytest
import torch

from rlsched.experiments.spawned import spawned


def work(number: int) -> tuple[int, int]:
    """The process and its threads; not all numbers can be worked on."""
    if number == 2:
        raise ZeroDivisionError
    return os.getpid(), torch.get_num_threads()


def test_without_processes_this_one_does_it_all_in_order():
    found = list(spawned(work, [(3,), (1,)], 0))
    assert found == [((3,), work(3)), ((1,), work(1))]


def test_processes_are_others_with_one_thread_and_what_fails_is_told():
    results = spawned(work, [(1,), (2,)], 1)
    (number,), (process, threads) = next(results)
    assert (number, threads) == (1, 1)
    assert process != os.getpid()
    with pytest.raises(ZeroDivisionError):
        next(results)
