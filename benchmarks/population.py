"""Model-steps of stacked training against the eager loop, telemetry included. One thread."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from rlsched import Buckets
from rlsched.benchmarks.eager import PlainGRU, loop
from rlsched.benchmarks.rows import Row, in_turns, matmul_rate
from rlsched.envs.population import Population
from rlsched.envs.population.plan import CHUNK
from rlsched.envs.tasks import Characters, DigitsCNN, Signals, Task, TaskConfig, TaskFamily
from rlsched.envs.tasks.losses import cross_entropy
from rlsched.envs.tasks.models import mlp
from rlsched.envs.tasks.optimizers import make_optimizer

WINDOW, ROUNDS = 20, 5
SETTINGS: dict[str, Any] = {"num_steps": 100_000, "num_decisions": 20, "base_lr": 0.001}


def perceptron(sizes: tuple[int, ...], batch: int, optimizer: str, row: int) -> Task:
    """Classification of 800 random examples by an MLP."""
    generator = torch.Generator().manual_seed(row)
    inputs = torch.randn(800, sizes[0], generator=generator)
    labels = torch.randint(sizes[-1], (800,), generator=generator)
    config = TaskConfig(data_seed=row, batch_size=batch, optimizer=optimizer, **SETTINGS)
    return Task(
        config=config,
        make_model=functools.partial(mlp, sizes, "relu"),
        make_optimizer=functools.partial(make_optimizer, config),
        loss=cross_entropy,
        train=TensorDataset(inputs, labels),
        validation=(inputs[:100], labels[:100]),
        test=(inputs[:100], labels[:100]),
        buckets=Buckets.from_scores(np.arange(800.0)),
    )


def of_family(family: TaskFamily, changes: dict[str, Any], row: int) -> Task:
    """A task of `family` with the settings in `changes`, and nothing the matter with its data."""
    plain: dict[str, Any] = {
        "bucket_by": "difficulty",
        "probed": False,
        "drift": 0.0,
        "domain_skew": 0.0,
        "imbalance": 1.0,
    }
    config = family.sample(np.random.default_rng(row))
    return family.build(dataclasses.replace(config, **(SETTINGS | plain | {"optimizer": "sgd"} | changes)))


def stacked(tasks: list[Task], device: str = "cpu", chunk: int = CHUNK) -> Callable[[], object]:
    """A function that advances runs of all `tasks` by one window."""
    together = Population(tasks, device=device, chunk=chunk)
    together.reset(range(len(tasks)))
    n_steps, scale = np.full(len(tasks), WINDOW), np.ones((len(tasks), WINDOW))

    def run() -> object:
        window = together.advance(n_steps, scale, together.spec.bucket_shares)
        # What advances is on the CPU afterwards, so a device has finished.
        return window.loss

    return run


def row_of(
    name: str,
    tasks: list[Task],
    optimizer: str,
    work: float,
    *,
    rounds: int = ROUNDS,
    plain: nn.Module | None = None,
    device: str = "cpu",
) -> list[Row]:
    """Two rows: the time of a model-step, and the share of the machine's matrix-multiply rate it reaches.

    `work` is the number of floating-point operations of its matrix products.
    """
    eager = loop(tasks[0], optimizer, WINDOW, plain)
    before, after = in_turns(eager, stacked(tasks, device), rounds)
    before, after = before / WINDOW * 1e6, after / WINDOW / len(tasks) * 1e6
    name = f"{name}, {optimizer}, {len(tasks)} runs"
    rows = [Row(f"model-step: {name}", after, "us", before, before / after)]
    if device == "cpu":
        share = work / (after * 1e-6) / matmul_rate()
        rows.append(Row(f"share of the matmul rate: {name}", share, "of 1", 1.0, share))
    return rows


def perceptron_rows(runs: int, rounds: int = ROUNDS, device: str = "cpu") -> list[Row]:
    """64-32-32-10 at `runs` runs."""
    return _perceptron_rows((64, 32, 32, 10), 32, "sgd", runs, rounds, device)


def rows(rounds: int = ROUNDS) -> list[Row]:
    """The table, everything timed `rounds` times."""
    result = []
    for runs in (16, 64, 256):
        result += perceptron_rows(runs, rounds)
    for sizes, batch, optimizer in (
        ((64, 32, 32, 10), 32, "adam"),
        ((16, 32, 10), 32, "sgd"),
        ((64, 64, 10), 32, "sgd"),
        ((784, 256, 10), 32, "sgd"),
        ((784, 256, 10), 128, "adam"),
    ):
        result += _perceptron_rows(sizes, batch, optimizer, 64 if sizes[0] < 784 else 16, rounds)
    cnn = [of_family(DigitsCNN(), {"batch_size": 32, "channels": 8}, row) for row in range(64)]
    result += row_of("CNN on digits, 8 channels, batch 32", cnn, "sgd", _work(cnn[0]), rounds=rounds)
    cnn = [of_family(Signals(), {"batch_size": 32, "model": "cnn"}, row) for row in range(64)]
    result += row_of("1-D CNN on signals, batch 32", cnn, "sgd", _work(cnn[0]), rounds=rounds)
    for model, width, batch in (("gru", 32, 16), ("transformer", 16, 8), ("transformer", 32, 16)):
        changes = {"model": model, "width": width, "batch_size": batch, "layers": 1}
        tasks = [of_family(Characters(), changes, row) for row in range(64)]
        plain = PlainGRU(96, width) if model == "gru" else None
        name = f"{model}, width {width}, batch {batch} x 32"
        result += row_of(name, tasks, "sgd", _work(tasks[0]), rounds=rounds, plain=plain)
    return result + chunk_rows(rounds)


def chunk_rows(rounds: int = ROUNDS) -> list[Row]:
    """How many rows to compute together: the measurement behind `rlsched.envs.population.plan.CHUNK`."""
    tasks = [perceptron((64, 32, 32, 10), 32, "sgd", row % 8) for row in range(256)]
    chosen, result = stacked(tasks), []
    for chunk in (16, 32, 64, 128, 256):
        ours, theirs = in_turns(stacked(tasks, chunk=chunk), chosen, rounds)
        ours, theirs = (value / WINDOW / len(tasks) * 1e6 for value in (ours, theirs))
        result.append(Row(f"model-step by chunks of {chunk} rows", ours, "us", theirs, theirs / ours))
    return result


def device_rows(rounds: int = ROUNDS, device: str = "cuda") -> list[Row]:
    """The first network on an accelerator, against the eager loop on the CPU."""
    return [row for runs in (256, 1024, 4096) for row in perceptron_rows(runs, rounds, device)]


def _perceptron_rows(
    sizes: tuple[int, ...], batch: int, optimizer: str, runs: int, rounds: int, device: str = "cpu"
) -> list[Row]:
    # Eight data sets are enough to be more than the caches hold.
    tasks = [perceptron(sizes, batch, optimizer, row % 8) for row in range(runs)]
    work = 6.0 * batch * sum(a * b for a, b in itertools.pairwise(sizes))
    return row_of(
        f"{'-'.join(map(str, sizes))} MLP, batch {batch}", tasks, optimizer, work, rounds=rounds, device=device
    )


def _work(task: Task) -> float:
    """Floating-point operations of the matrix products of a training step, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    model = task.make_model(torch.Generator().manual_seed(0))
    size = task.config.batch_size
    with FlopCounterMode(display=False) as counter:
        task.loss(model, [values[:size] for values in task.train.tensors]).sum().backward()  # type: ignore[attr-defined]
    return float(counter.get_total_flops())
