"""Many inner runs advanced together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from rlsched import _check
from rlsched.contract import Array, RunSpec, Window
from rlsched.envs.data_order import DataOrder
from rlsched.envs.population.block import Row, StackedBlock
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.population.heads import head_of
from rlsched.envs.population.network import Network
from rlsched.envs.population.plan import CHUNK, Plan, blocks, enough, plan_row
from rlsched.envs.population.stacked_mlp import StackedMLP
from rlsched.envs.population.stacked_module import StackedModule
from rlsched.envs.tasks.task import Task
from rlsched.envs.torch_run import TorchRun, run_seeds, run_spec

UNSTACKABLE = ("refuse", "eager")


class Block(Protocol):
    """Some rows of a population; see `StackedBlock`."""

    spec: RunSpec

    def advance(self, n_steps: Array, lr_scale: Array, bucket_weights: Array) -> Window: ...
    def counters(self) -> tuple[Array, Array]: ...
    def validation_loss(self) -> Array: ...
    def test_loss(self) -> Array: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    def row_state(self, row: int) -> dict[str, Any]: ...
    def load_row_state(self, row: int, state: dict[str, Any]) -> None: ...


class Population:
    """R runs, each with its own task, seed, learning rate, weights, batch size and horizon.

    Row r does what the `TorchRun` of the same task and seed does, to floating-point tolerance, and does not
    depend on the other rows. Each row takes the fastest of three paths (see `paths`): multilayer perceptrons
    are stacked by hand; other stateless modules by `torch.func`, with those of the same structure; where too few
    rows share a structure, each is an eager loop. SGD, Adam and AdamW can be stacked.

    Args:
        tasks: R of them, all with the same number of buckets.
        chunk: rows computed together at most, at least 1.
        device: where stacked rows are computed.
        unstackable: what to do about a task that cannot be stacked: "refuse" it, or train it by an "eager" loop,
            which is slow.
    """

    spec: RunSpec

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        chunk: int = CHUNK,
        device: str | torch.device = "cpu",
        unstackable: str = "refuse",
    ) -> None:
        if not tasks:
            raise ValueError("tasks must hold at least one task.")
        counts = {task.buckets.count for task in tasks}
        if len(counts) > 1:
            raise ValueError(f"tasks must have the same number of buckets, got {sorted(counts)}.")
        self.tasks = list(tasks)
        self._chunk = _check.integer("chunk", chunk, 1)
        self._device = torch.device(device)
        self._unstackable = _check.choice("unstackable", unstackable, UNSTACKABLE)

    def reset(self, seeds: Sequence[int]) -> None:
        """Start every run afresh: model, optimizer and data order of row r follow from its seed alone.

        Raises:
            ValueError: a task cannot be stacked, and `unstackable` is "refuse"; the message says why.
        """
        if len(seeds) != len(self.tasks):
            raise ValueError(f"seeds must be one for each of {len(self.tasks)} tasks, got {len(seeds)}.")
        models, specs, plans = [], [], []
        for task, seed in zip(self.tasks, seeds, strict=True):
            model = task.make_model(torch.Generator().manual_seed(run_seeds(seed)[0]))
            optimizer = task.make_optimizer(model)
            models.append(model)
            specs.append(run_spec(task, optimizer))
            plans.append(self._checked(plan_row(task, model, optimizer)))
        plans = enough(plans)
        self.spec = RunSpec.stack(specs)
        self.paths = [plan.path for plan in plans]
        """How each row is computed: "mlp", "module" or "eager"."""
        self.reasons = [plan.reason or plan.note for plan in plans]
        """Why a row is not stacked; empty if it is."""
        self._rows: list[Array] = []
        self._blocks: list[Block] = []
        for rows in blocks(plans, self._chunk):
            self._rows.append(np.array(rows))
            try:
                self._blocks.append(self._make_block(rows, plans[rows[0]], models, specs, seeds))
            except _CannotStack as error:
                self._checked(Plan("eager", reason=str(error)))
                self._blocks.append(self._eager(rows, seeds))
                for row in rows:
                    self.paths[row], self.reasons[row] = "eager", str(error)

    def advance(self, n_steps: Array, lr_scale: Array, bucket_weights: Array) -> Window:
        """Train row r for `n_steps[r]` steps; 0 leaves it as it is.

        Args:
            n_steps: (R,) at least 0.
            lr_scale: (R, >= max n_steps) multiplier of the base learning rates at each step.
            bucket_weights: (R, K) probability of drawing from each bucket.

        Returns:
            the telemetry of these steps; of a row that was left as it is, only `step` and `decision` mean
            something. A row ends its window at a loss that is not finite.
        """
        self._check(n_steps, lr_scale, bucket_weights)
        window = Window.opening(self.spec)
        # Without what is measured of single parameter groups: rows have one learning rate (`RunSpec.group_rates`).
        fields = {name: values.copy() for name, values in vars(window).items() if isinstance(values, np.ndarray)}
        for rows, block in zip(self._rows, self._blocks, strict=True):
            if not n_steps[rows].any():
                fields["step"][rows], fields["decision"][rows] = block.counters()
                continue
            part = block.advance(n_steps[rows], lr_scale[rows], bucket_weights[rows])
            for name, values in fields.items():
                values[rows] = getattr(part, name)
        return Window(spec=self.spec, **fields)

    def _check(self, n_steps: Array, lr_scale: Array, bucket_weights: Array) -> None:
        if not hasattr(self, "spec"):
            raise ValueError("the population has no runs yet: call reset(seeds) first.")
        runs, longest = len(self.tasks), int(np.max(n_steps, initial=0))
        if n_steps.shape != (runs,) or n_steps.dtype.kind not in "iu" or n_steps.min() < 0:
            raise ValueError(f"n_steps must be {runs} integers >= 0, got {n_steps}.")
        if lr_scale.ndim != 2 or len(lr_scale) != runs or lr_scale.shape[1] < longest:
            raise ValueError(f"lr_scale must have shape ({runs}, >= {longest}), got {lr_scale.shape}.")
        if not np.isfinite(lr_scale).all():
            raise ValueError("lr_scale must be finite everywhere.")
        shape = self.spec.bucket_shares.shape
        if bucket_weights.shape != shape:
            raise ValueError(f"bucket_weights must have shape {shape}, got {bucket_weights.shape}.")
        if not (bucket_weights >= 0).all() or not bucket_weights.any(axis=1).all():
            raise ValueError("bucket_weights must be >= 0, with a positive one in every row.")

    def validation_loss(self) -> Array:
        """(R,) mean loss of each row on its validation data; not finite if it has diverged."""
        return self._gather(lambda block: block.validation_loss())

    def test_loss(self) -> Array:
        """(R,) mean loss of each row on its test data; for the evaluation alone."""
        return self._gather(lambda block: block.test_loss())

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the runs depends on, copied."""
        return {"blocks": [block.state_dict() for block in self._blocks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` of a population of the same tasks was taken, bit for bit."""
        for block, saved in zip(self._blocks, state["blocks"], strict=True):
            block.load_state_dict(saved)

    def branch(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy the state of rows `sources` onto rows `targets`, pair by pair; a pair must be of one task.

        Afterwards the two go on alike for as long as they are scheduled alike: they draw the same batches.
        """
        for source, target in zip(sources, targets, strict=True):
            if self.tasks[source] is not self.tasks[target]:
                raise ValueError(f"rows {source} and {target} are of different tasks: branch rows of one task.")
        states = [self.row_state(source) for source in sources]
        for state, target in zip(states, targets, strict=True):
            self.load_row_state(target, state)

    def row_state(self, row: int) -> dict[str, Any]:
        """Where run `row` stands, copied: what `branch` copies."""
        block, position = self._place(row)
        return block.row_state(position)

    def load_row_state(self, row: int, state: dict[str, Any]) -> None:
        """Let run `row` stand where another one of its task, computed in the same way, stood (`row_state`)."""
        block, position = self._place(row)
        block.load_row_state(position, state)

    def _place(self, row: int) -> tuple[Block, int]:
        """The block that run `row` is in, and which of its rows it is."""
        for rows, block in zip(self._rows, self._blocks, strict=True):
            if row in rows:
                return block, int(np.flatnonzero(rows == row)[0])
        raise ValueError(f"row must be of {len(self.tasks)} runs, got {row}.")

    def _make_block(
        self,
        rows: list[int],
        plan: Plan,
        models: Sequence[nn.Module],
        specs: Sequence[RunSpec],
        seeds: Sequence[int],
    ) -> Block:
        if plan.path == "eager" or plan.settings is None:
            return self._eager(rows, seeds)
        mine, head = [models[row] for row in rows], head_of(self.tasks[rows[0]].loss)
        network: Network
        if plan.path == "mlp" and head is not None:
            network = StackedMLP(mine, head, next(mine[0].parameters()).dtype, self._device)
        else:
            network = self._stack_modules(rows, mine)
        for position, model in enumerate(mine):
            network.load(position, model)
        members = [
            Row(self.tasks[row], specs[row], DataOrder(self.tasks[row], run_seeds(seeds[row])[1])) for row in rows
        ]
        return StackedBlock(members, network, plan.settings)

    def _stack_modules(self, rows: list[int], models: Sequence[nn.Module]) -> StackedModule:
        """The modules stacked, and tried out, so that what cannot be stacked fails before the first step."""
        tasks = [self.tasks[row] for row in rows]
        try:
            network = StackedModule(models, tasks[0].loss, self._device)
            batches = [network.pad([values[:2] for values in task.train.tensors]) for task in tasks]  # type: ignore[attr-defined]
            network.try_out([torch.stack(tensors) for tensors in zip(*batches, strict=True)])
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise _CannotStack(f"torch.func cannot batch it ({_first_line(error)})") from error
        return network

    def _eager(self, rows: list[int], seeds: Sequence[int]) -> EagerBlock:
        runs = [TorchRun(self.tasks[row]) for row in rows]
        for row, run in zip(rows, runs, strict=True):
            run.reset(seeds[row])
        return EagerBlock(runs)

    def _checked(self, plan: Plan) -> Plan:
        """`plan`, unless it is of a task that cannot be stacked and that is not wanted."""
        if plan.reason and self._unstackable == "refuse":
            raise ValueError(
                f"the task cannot be stacked: {plan.reason}. Change that, or choose the slow path: "
                'unstackable="eager".'
            )
        return plan

    def _gather(self, read: Callable[[Block], Array]) -> Array:
        out = np.zeros(len(self.tasks))
        for rows, block in zip(self._rows, self._blocks, strict=True):
            out[rows] = read(block)
        return out


class _CannotStack(Exception):
    """A trial step of a stack failed."""


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
