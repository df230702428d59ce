"""HDET: replicas that differ in their learning rates, and are averaged."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from rlsched import _check
from rlsched.contract import Array, Window
from rlsched.controllers.schedules import Linear
from rlsched.controllers.schedules.open_loop import OpenLoop, check_schedule
from rlsched.envs.drivers.driver import Driven
from rlsched.envs.drivers.plain import seeds
from rlsched.envs.drivers.record import Record
from rlsched.envs.population.average import average
from rlsched.envs.population.population import Population
from rlsched.envs.tasks.task import Task


@dataclass(frozen=True)
class HDET:
    """Replicas fan out over a spread of learning rates, are averaged, and move the learning rate by their losses.

    Replica r of N trains each window at rho_r times the learning rate, the factors evenly spaced,

        rho_r = 1 + spread * (2 r - N + 1) / (N - 1).

    Then the parameters of all are averaged. With L_r the mean training loss of replica r in the window and L the
    mean of these, the learning rate base_lr * e^z * schedule moves towards the replicas that did better:

        w = softmax((L - L_r) / (temperature * L)),   v <- momentum * v + (1 - momentum) * (sum_r w_r rho_r - 1),
        z <- z + gain * v.

    Source: Cheng et al. 2026, Scalable Hyperparameter-Divergent Ensemble Training with Automatic Learning Rate
        Exploration for Large Models, arXiv:2604.24708.
    Deviation: each replica takes the gradient of its own batch (theirs: the mean gradient of all), and the moments
        of the optimizer, which are the same in theirs, are averaged with the parameters. Losses are compared
        relative to their mean, and the learning rate moves on a logarithmic scale. Its decay is a schedule
        (theirs: geometric). Replicas are averaged at every decision, and the defaults let the learning rate move
        within tens of these (theirs, for hundreds: spread 1/9, momentum 0.9, gain 0.5).
        A replica that fails is left out of the mean and goes on from it.

    Attributes:
        replicas: N, at least 1.
        spread: largest relative difference of a replica's learning rate, in [0, 1].
        momentum: beta, in [0, 1).
        temperature: sigma, relative to the loss, at least 1e-6.
        gain: lambda, at least 0; 0 keeps the learning rate on the schedule.
        schedule: what the learning rate follows otherwise; by default linear decay to zero.
        common_batches: whether all replicas draw the same batches. Then their losses differ by the learning rate
            alone, and without a spread they are one plain run; but nothing is gained by their mean.

    >>> HDET(replicas=3).factors.tolist()
    [0.5, 1.0, 1.5]
    """

    replicas: int = 4
    spread: float = 0.5
    momentum: float = 0.5
    temperature: float = 0.1
    gain: float = 1.0
    schedule: OpenLoop = field(default_factory=Linear)
    common_batches: bool = False

    def __post_init__(self) -> None:
        _check.integer("replicas", self.replicas, 1)
        _check.real("spread", self.spread, 0.0, 1.0)
        _check.real("momentum", self.momentum, 0.0, 1.0 - 1e-9)
        _check.real("temperature", self.temperature, 1e-6)
        _check.real("gain", self.gain, 0.0)
        check_schedule("schedule", self.schedule)
        if not isinstance(self.common_batches, bool):
            raise TypeError(f"common_batches must be True or False, got {self.common_batches!r}.")

    @property
    def factors(self) -> Array:
        """(N,) rho of each replica."""
        if self.replicas == 1:
            return np.ones(1)
        return 1.0 + self.spread * np.linspace(-1.0, 1.0, self.replicas)

    def run(self, task: Task, seed: int) -> Driven:
        """See `Driver`."""
        population = Population([task] * self.replicas, unstackable="eager")
        population.reset([seed] * self.replicas if self.common_batches else seeds(seed, self.replicas))
        # All begin with the model of the first.
        self._converge(population, [0])
        spec, record, spent = population.spec, Record(), 0
        window, level, velocity = Window.opening(spec), 0.0, 0.0
        while (ahead := window.steps_ahead).any():
            scale = math.exp(level) * self.schedule.profile(window.progress_ahead())
            before = window.step
            window = population.advance(ahead, self.factors[:, None] * scale, spec.bucket_shares)
            spent += int((window.step - before).sum())
            sound = (window.nonfinite == 0) & np.isfinite(population.validation_loss())
            loss = math.inf
            if sound.any():
                self._converge(population, np.flatnonzero(sound).tolist())
                loss = float(population.validation_loss()[0])
            # A replica that failed now stands where the others do.
            window = window.replace(step=np.full_like(before, window.step.max()))
            if not record.window(int(window.step[0]), float(spec.base_lr[0, 0] * scale[0, 0]), loss):
                break
            velocity = self.momentum * velocity + (1.0 - self.momentum) * self._signal(window.loss, sound)
            level += self.gain * velocity
        return record.driven(float(population.test_loss()[0]), spent)

    def _converge(self, population: Population, sources: list[int]) -> None:
        """All replicas go on from the mean of `sources`."""
        average(population, sources, range(self.replicas), own_draws=not self.common_batches)

    def _signal(self, losses: Array, sound: Array) -> float:
        """How far from 1 the factors of those with lower `losses` (N,) lie; who is not `sound` has no weight."""
        mean = float(losses[sound].mean())
        scores = np.where(sound, (mean - losses) / (self.temperature * max(abs(mean), 1e-12)), -np.inf)
        weights = np.exp(scores - scores.max())
        return float(weights @ self.factors / weights.sum()) - 1.0
