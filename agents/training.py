"""Training a schedule policy: baselines, warm start, PPO, evaluation on fixed tasks, checkpoints, export."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import configure

from rlsched import _check
from rlsched.agents.checkpoint import State, load_checkpoint, save_checkpoint
from rlsched.agents.config import TrainConfig
from rlsched.agents.evaluation import (
    Baselines,
    BaselineUnit,
    EvaluationUnit,
    Outcome,
    evaluation_seeds,
    join_outcomes,
)
from rlsched.agents.export import export_policy
from rlsched.agents.imitation import Lesson, fit
from rlsched.agents.ppo import SchedulePPO
from rlsched.agents.rollouts import NO_WEIGHTS, Backend, InProcess, Job, Setting, Weights
from rlsched.agents.run_folder import RunFolder
from rlsched.envs.tasks import Natural, TaskFamily
from rlsched.envs.tasks.task import check_family
from rlsched.policy import Policy, PolicyInterface


@dataclass(frozen=True)
class Progress:
    """What is known after a step of a stage.

    Attributes:
        stage: what is being done.
        done: steps of the stage done.
        total: steps of the stage.
        mean_return: mean return of the latest training episodes, with exploration; NaN before there are any.
        score: of the policy on the evaluation tasks, by the latest evaluation; NaN before. Lower is better.
        best: the best score so far.
        default: score of the best single default.
        tuned: score of linear decay tuned per task.
    """

    stage: str
    done: int
    total: int
    mean_return: float = float("nan")
    score: float = float("nan")
    best: float = float("nan")
    default: float = float("nan")
    tuned: float = float("nan")


Report = Callable[[Progress], None]


def train(
    config: TrainConfig,
    out: Path,
    *,
    tasks: TaskFamily,
    backend: Callable[[Setting], Backend] = InProcess,
    device: str = "cpu",
    resume: bool = False,
    report: Report = lambda progress: None,
) -> Policy:
    """Train a policy, and return the best one evaluated.

    `out` receives `config.json`, `checkpoint.pt` (after every stage, round and iteration), `policy.safetensors`
    (whenever an evaluation is the best so far) and TensorBoard scalars in `tensorboard/`.

    Args:
        config: what to do.
        out: folder of the run.
        tasks: the distribution of training tasks.
        backend: makes what does the jobs: `InProcess`, or a `RayBackend` with its workers given. The policy is the
            same by any.
        device: where stacked training runs are computed.
        resume: continue the run in `out` from its checkpoint; the result is the same as without the stop.
        report: called at the beginning of a stage, and after every step of it.

    Raises:
        FileExistsError: `out` holds a run and `resume` is False.
        FileNotFoundError: `resume` is True and `out` holds no checkpoint.
        ValueError: the run in `out` has another config, or its checkpoint is damaged.
    """
    if isinstance(tasks, TaskFamily) and not config.tasks.curriculum:
        tasks = Natural(tasks)
    check_family(tasks)
    _check_decisions(tasks, config.rollouts.decisions)
    folder = RunFolder.claim(Path(out), config, tasks, resume)
    torch.set_num_threads(1)  # the networks are tiny: more threads cost more than they bring
    setting = Setting(tasks, PolicyInterface(config.action), config.tasks.unstackable, device)
    with backend(setting) as workers:
        return _Training(config, setting, workers, folder, report).run(resume)


class _Training:
    """The stages, and what they hand on to each other."""

    def __init__(
        self, config: TrainConfig, setting: Setting, backend: Backend, folder: RunFolder, report: Report
    ) -> None:
        self.config, self.backend, self.folder, self._report = config, backend, folder, report
        self.model = _make_model(config, setting, backend)
        self.model.set_logger(configure(str(folder.tensorboard), ["tensorboard"]))
        seeds = evaluation_seeds(config.seed, config.evaluation.groups)
        self._units = [EvaluationUnit(seed, config.evaluation.group_tasks) for seed in seeds]
        self.state = State()

    def run(self, resume: bool) -> Policy:
        """All stages, or what is left of them."""
        if resume:
            self.state = load_checkpoint(self.folder.checkpoint, self.model)
        if self.state.baselines is None:
            self._measure_baselines()
        if not self.state.warm and self.config.warm_start.groups:
            self._warm_up()
        if self.model.iteration < self.config.ppo.iterations:
            self._tell("learning", self.model.iteration, self.config.ppo.iterations)
        while self.model.iteration < self.config.ppo.iterations:
            self._learn()
        return Policy.load(self.folder.policy)

    def _measure_baselines(self) -> None:
        units = [BaselineUnit(unit.seed, unit.tasks) for unit in self._units]
        self.state.baselines = Baselines.join(self._jobs("baselines", units))
        self._save()

    def _warm_up(self) -> None:
        """Tune tasks, then imitate in rounds of lessons, while the next round's tasks are tuned."""
        warm, state, seed = self.config.warm_start, self.state, self.config.seed
        if not state.tuned:
            state.tuned = self._jobs("tuning tasks", warm.searches(seed, 0))
            self._save()
        for number in range(len(state.lessons), warm.rounds):
            lessons = warm.lessons(seed, number, state.tuned, self.config.ppo.gamma)
            searches = warm.searches(seed, number + 1) if number + 1 < warm.rounds else []
            # One list, so that no worker waits between the two; the longer jobs first.
            stage = f"imitation {number + 1}/{warm.rounds}"
            found = self._jobs(stage, [*searches, *lessons], self.model.weights())
            state.tuned = found[: len(searches)]
            state.lessons.append(Lesson.join(found[len(searches) :]))
            errors = fit(
                self.model.policy,
                state.lessons,
                warm,
                self.config.action,
                np.random.default_rng([seed, number]),
            )
            for name, value in errors.items():
                self.model.logger.record(f"imitation/{name}", value)
            if number + 1 == warm.rounds:
                state.warm, state.lessons = True, []
                self._evaluate()
            self.model.logger.dump(number)
            self._save()

    def _learn(self) -> None:
        """An iteration of PPO, with an evaluation if one is due."""
        settings = self.config.ppo
        self.model.learn(self.model.n_envs * self.model.n_steps)
        iteration = self.model.iteration
        if iteration % self.config.evaluation.every == 0 or iteration == settings.iterations:
            self.model.settle()
            self._evaluate()
        self.model.logger.dump(self.model.num_timesteps)
        self._save()
        self._tell("learning", iteration, settings.iterations)

    def _evaluate(self) -> None:
        """Score the policy, and export it if it is the best so far."""
        state, baselines = self.state, self.state.baselines
        assert baselines is not None
        outcome = join_outcomes(self.backend.run(self._units, self.model.weights()))
        state.score = float(outcome.scores.mean())
        for name, value in _figures(outcome, baselines).items():
            self.model.logger.record(f"evaluation/{name}", value)
        if not state.score >= state.best:
            state.best = state.score
            self._export(outcome, baselines)

    def _export(self, outcome: Outcome, baselines: Baselines) -> None:
        training = self.folder.settings | {"decisions": self.model.num_timesteps}
        evaluation = {
            "what": "mean ln(final / initial validation loss) on tasks that selected this policy",
            "tasks": len(outcome.scores),
            **_figures(outcome, baselines),
        }
        export_policy(self.model.policy, self.config.action, training=training, evaluation=evaluation).save(
            self.folder.policy
        )

    def _jobs(self, stage: str, jobs: Sequence[Job], weights: Weights = NO_WEIGHTS) -> list[Any]:
        count = itertools.count(1)
        self._tell(stage, 0, len(jobs))
        return self.backend.run(jobs, weights, lambda *_: self._tell(stage, next(count), len(jobs)))

    def _tell(self, stage: str, done: int, total: int) -> None:
        returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        baselines = self.state.baselines
        self._report(
            Progress(
                stage, done, total,
                mean_return=float(np.mean(returns)) if returns else math.nan,
                score=self.state.score,
                best=self.state.best,
                default=math.nan if baselines is None else float(baselines.default.mean()),
                tuned=math.nan if baselines is None else float(baselines.tuned_linear.mean()),
            )
        )  # fmt: skip

    def _save(self) -> None:
        save_checkpoint(self.folder.checkpoint, self.model, self.state)


def _figures(outcome: Outcome, baselines: Baselines) -> dict[str, float]:
    """Mean scores (lower is better) of policy and baselines, and how often it beats the tuned."""
    return {
        "score": float(outcome.scores.mean()),
        "best_default": float(baselines.default.mean()),
        "tuned_linear": float(baselines.tuned_linear.mean()),
        "share_better_than_tuned": float((outcome.scores < baselines.tuned_linear).mean()),
    }


def _check_decisions(tasks: TaskFamily, most: int) -> None:
    """Refuse episodes that no rollout would hold; their ends would never be seen."""
    rng = np.random.default_rng(0)
    found = max(tasks.sample(rng).num_decisions for _ in range(100))
    if found > most:
        raise _check.ArgumentError(
            f"num_decisions must be at most {most} in every task, got {found}: raise --rollouts.decisions."
        )


def _make_model(config: TrainConfig, setting: Setting, backend: Backend) -> SchedulePPO:
    ppo = config.ppo
    return SchedulePPO(
        backend,
        config.rollouts,
        setting.tasks.num_buckets,
        max(ppo.iterations, 1),
        batch_size=ppo.minibatch,
        n_epochs=ppo.epochs,
        learning_rate=(lambda remaining: ppo.learning_rate * remaining) if ppo.decay else ppo.learning_rate,
        gae_lambda=ppo.gae_lambda,
        gamma=ppo.gamma,
        target_kl=ppo.target_kl or None,
        policy_kwargs={
            "log_std_init": ppo.initial_log_std,
            "privileged": ppo.privileged,
            **dataclasses.asdict(config.network),
        },
        seed=config.seed,
        relative=ppo.relative,
    )
