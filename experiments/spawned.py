"""Pieces of work in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, TypeVar

T = TypeVar("T")


def spawned(
    function: Callable[..., T], arguments: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[tuple[tuple[Any, ...], T]]:
    """Each of the `arguments` with what `function`, which can be pickled, makes of it, as it is done.

    Every piece has a process and one thread to itself, `workers` at a time; with none, this process does them all.
    """
    if not workers or not arguments:
        for each in arguments:
            yield each, function(*each)
        return
    # Spawned: a fork of a process that has used torch's threads may hang.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_use_one_thread, max_tasks_per_child=1
    ) as pool:
        running = {pool.submit(function, *each): each for each in arguments}
        for done in as_completed(running):
            yield running[done], done.result()


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)
