"""Settings of a training."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlsched import _check
from rlsched.action import ActionSpec
from rlsched.agents.imitation import WarmStart
from rlsched.agents.ppo import RolloutPlan
from rlsched.envs.tasks import FAMILIES
from rlsched.policy.format import MAX_UNITS


@dataclass(frozen=True)
class TaskSettings:
    """Which tasks a policy is trained on.

    Attributes:
        family: one of those that `rlsched tasks` lists.
        without: a family of that mixture that is left out, so that it can be judged on what it never met.
        function: instead, a task of your own, "package.module:function"; see docs/tasks.md.
        misjudged: largest factor between the base learning rates of training tasks and sensible ones.
        curriculum: whether the policy learns to weigh buckets too; if not, all tasks keep their natural mixture.
        unstackable: what to do about tasks that cannot be computed side by side: "refuse", or train by "eager"
            loops, one after another.
    """

    family: str = "quick"
    without: str = ""
    function: str = ""
    misjudged: float = 100.0
    curriculum: bool = True
    unstackable: str = "refuse"

    def __post_init__(self) -> None:
        _check.choice("family", self.family, FAMILIES)
        _check.real("misjudged", self.misjudged, 1.0, 1e4)
        _check.choice("unstackable", self.unstackable, ("refuse", "eager"))


@dataclass(frozen=True)
class NetworkSettings:
    """How large the policy is.

    Attributes:
        units: in each of the two hidden layers of the run.
        bucket_units: hidden units per bucket.
        members: networks of this size that learn the same, each from weights of its own; their mean acts.
    """

    units: int = 64
    bucket_units: int = 32
    members: int = 1

    def __post_init__(self) -> None:
        _check.integer("members", self.members, 1, MAX_UNITS)
        remedy = f"A policy file holds at most {MAX_UNITS} of all members." if self.members > 1 else ""
        _check.integer("units", self.units, 1, MAX_UNITS // self.members, remedy)
        _check.integer("bucket_units", self.bucket_units, 1, MAX_UNITS // self.members, remedy)


@dataclass(frozen=True)
class PPOSettings:
    """How PPO learns.

    Attributes:
        iterations: a rollout and an update each; 0 leaves it at the warm start.
        learning_rate: of Adam, falling linearly to zero if `decay`.
        decay: whether it does.
        epochs: passes over a rollout, ended early by target_kl.
        minibatch: decisions per gradient step.
        target_kl: largest divergence of an update; 0 for no limit.
        gae_lambda: of the advantage estimate.
        gamma: discount per decision; 1 for none, so that the end of a run counts as much early as late.
        initial_log_std: ln of the exploration noise at first, in units of the action.
        privileged: whether the critic is told facts of the task that the actor is not.
        relative: whether advantages are relative to runs of the same task from the same seed, if `repeats` > 1.
    """

    iterations: int = 100
    learning_rate: float = 5e-4
    decay: bool = True
    epochs: int = 6
    minibatch: int = 1600
    target_kl: float = 0.03
    gae_lambda: float = 0.98
    gamma: float = 1.0
    initial_log_std: float = -2.0
    privileged: bool = True
    relative: bool = True

    def __post_init__(self) -> None:
        _check.integer("iterations", self.iterations, 0)
        _check.integer("epochs", self.epochs, 1)
        _check.integer("minibatch", self.minibatch, 2)
        _check.real("learning_rate", self.learning_rate, 0.0, 1.0)
        _check.real("target_kl", self.target_kl, 0.0)
        _check.real("gae_lambda", self.gae_lambda, 0.0, 1.0)
        _check.real("gamma", self.gamma, 0.0, 1.0)
        _check.real("initial_log_std", self.initial_log_std, -10.0, 2.0)


@dataclass(frozen=True)
class EvaluationSettings:
    """The fixed tasks, never trained on, that say how good a policy is, and select the best one.

    Attributes:
        every: iterations of PPO between evaluations.
        groups: of tasks that are computed together.
        group_tasks: tasks in each.
    """

    every: int = 10
    groups: int = 16
    group_tasks: int = 4

    def __post_init__(self) -> None:
        for name in ("every", "groups", "group_tasks"):
            _check.integer(name, getattr(self, name), 1)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides which policy a training ends in.

    Attributes:
        seed: of everything.
        tasks: which tasks it is trained on.
        warm_start: imitation of tuned schedules, before PPO.
        rollouts: what PPO collects in an iteration.
        ppo: how it learns from that.
        evaluation: the tasks that select the policy.
        action: how actions are decoded.
        network: how large the policy is.
    """

    seed: int = 0
    tasks: TaskSettings = field(default_factory=TaskSettings)
    warm_start: WarmStart = field(default_factory=WarmStart)
    rollouts: RolloutPlan = field(default_factory=RolloutPlan)
    ppo: PPOSettings = field(default_factory=PPOSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    action: ActionSpec = field(default_factory=ActionSpec)
    network: NetworkSettings = field(default_factory=NetworkSettings)

    def __post_init__(self) -> None:
        _check.integer("seed", self.seed, 0, 2**32 - 1)
        collected = self.rollouts.units * self.rollouts.slots * self.rollouts.decisions
        if collected % self.ppo.minibatch:
            raise _check.ArgumentError(
                f"minibatch must divide units x slots x decisions ({collected}), got {self.ppo.minibatch}."
            )
        if not self.warm_start.groups and not self.ppo.iterations:
            raise _check.ArgumentError(
                "iterations must be at least 1 without a warm start: nothing would be learned."
            )
