"""The Gymnasium environment: scheduling a training run."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlsched import _check, observation
from rlsched.action import ActionSpec
from rlsched.contract import Array
from rlsched.envs.episodes import Episodes
from rlsched.envs.population.eager_block import EagerBlock
from rlsched.envs.tasks import Digits, TaskConfig, TaskFamily
from rlsched.envs.tasks.task import check_family
from rlsched.envs.torch_run import TorchRun
from rlsched.policy import PolicyInterface


class TrainingScheduleEnv(gymnasium.Env[Array, Array]):
    """One episode is one training run; one step is the stretch between two decisions.

    `reset` draws a task, builds it and trains the opening (one step, at the default schedule), so that the
    first observation already rests on telemetry. Each `step` decodes the action (see
    `rlsched.action.ActionSpec`), trains until the next decision and observes. The code that observes and
    decodes is the code that the exported policy runs in a user's training.

    Observation, `Box` of shape (26 + 6 K,), float32, for K buckets. ln is the natural logarithm; what has no
    value yet is 0:

    {observation_table}

    Action, `Box(-1, 1)` of shape (1 + K,), float32; the zero action is linear decay of the base learning rate
    over the natural mixture, after a short warm-up:

    {action_table}

    Reward: the decrease of ln(validation loss) over the step, the logarithm taken relative to its value after
    the opening and clipped to [-7, 5]. The undiscounted return is ln(L_0 / L_T). Test data never enter.

    Termination: the run is over, or a training or validation loss is not finite; then the return is -5, the
    lowest there is. Episodes are never truncated.

    Arguments:
        tasks: the family that tasks are drawn from; by default `Digits()`.
        interface: observation and action decoding.

    `reset(seed=...)` decides the task and everything in it. `reset(options={{"task": config}})` runs the task
    of that config; `{{"run_seed": n}}` fixes model and data order. `info` holds `validation_loss`, `step`,
    `lr_scale` and `bucket_weights`, and after `reset` also `task` and `run_seed`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(self, tasks: TaskFamily | None = None, interface: PolicyInterface | None = None) -> None:
        self.tasks = Digits() if tasks is None else check_family(tasks)
        self.interface = PolicyInterface() if interface is None else interface
        low, high = observation.bounds(self.tasks.num_buckets)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1 + self.tasks.num_buckets,), dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin a run; see the class."""
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"task", "run_seed"}
        if unknown:
            raise ValueError(f"options must be among 'task' and 'run_seed', got {sorted(unknown)}.")
        # Both are drawn whether or not they are used, so that options leave the other random choices alone.
        sampled, drawn = self.tasks.sample(self.np_random), int(self.np_random.integers(2**31))
        config: TaskConfig = options.get("task", sampled)
        run_seed = _check.integer("options['run_seed']", options.get("run_seed", drawn), 0)
        task = self.tasks.build(config)
        if task.buckets.count != self.tasks.num_buckets:
            raise ValueError(
                f"task must have {self.tasks.num_buckets} buckets, as its family says, got {task.buckets.count}."
            )
        self.run = TorchRun(task)
        self.run.reset(run_seed)
        self._episodes = Episodes(EagerBlock([self.run]), [task], self.interface)
        seen, (info,) = self._episodes.begin()
        return seen[0], info | {"task": config, "run_seed": run_seed}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Decide, train until the next decision, observe; see the class."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(f"action must be finite with shape {self.action_space.shape}, got {action}.")
        seen, reward, over, (info,) = self._episodes.step(action[None])
        return seen[0], float(reward[0]), bool(over[0]), False, info


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    return "\n    ".join(f"| {' | '.join(row)} |" for row in rows)


def _observation_table() -> str:
    rows = [("index", "range", "unit", "meaning"), ("---", "---", "---", "---")]
    for index, feature in enumerate(observation.RUN_FEATURES):
        rows.append((str(index), f"[{feature.low:g}, {feature.high:g}]", feature.unit, feature.meaning))
    base, width = len(observation.RUN_FEATURES), len(observation.BUCKET_FEATURES)
    for index, feature in enumerate(observation.BUCKET_FEATURES):
        span = f"[{feature.low:g}, {feature.high:g}]"
        rows.append((f"{base + index} + {width} k", span, feature.unit, f"bucket k: {feature.meaning}"))
    return _table(rows)


def _action_table() -> str:
    default = ActionSpec()
    move = f"{default.max_move:g} decades (`interface.action.max_move`)"
    logit = f"{default.max_logit:g} nats (`interface.action.max_logit`)"
    return _table(
        [
            ("index", "range", "unit", "meaning"),
            ("---", "---", "---", "---"),
            ("0", "[-1, 1]", move, "move of the correction to the learning rate"),
            ("1 + k", "[-1, 1]", logit, "logit of bucket k, added to ln of its share"),
        ]
    )


# The tables are made from the features themselves, so that they cannot drift apart.
TrainingScheduleEnv.__doc__ = (TrainingScheduleEnv.__doc__ or "").format(
    observation_table=_observation_table(), action_table=_action_table()
)
