"""AutoLRS: the learning rate of each stage by Bayesian optimisation on the fly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rlsched import _check
from rlsched.contract import Array, Window
from rlsched.envs.drivers.driver import Driven
from rlsched.envs.drivers.forecast import exponential_forecast
from rlsched.envs.drivers.record import Record
from rlsched.envs.tasks.task import Task
from rlsched.envs.torch_run import TorchRun

PER_DECADE = 50
"""Learning rates in a decade between which the search chooses."""
MEASUREMENTS = 16
"""Validation losses measured in a trial at most, as in the authors' code, besides the one at its start."""
FEWEST_STEPS = 3
"""Of a trial; an exponential has three parameters."""


@dataclass(frozen=True)
class AutoLRS:
    """The learning rate of each stage by Bayesian optimisation, every candidate tried for a tenth of the stage.

    At the start of a stage of s steps the state is saved. Each candidate learning rate then trains s / 10 steps
    from there, and its validation loss after s steps is forecast by an exponential fitted to those measured on the
    way,

        L(t) = a exp(-r t) + c,   r > 0,

    (`forecast.py`). The first candidate is the learning rate at present; each further one is where the lower
    confidence bound m - kappa d is lowest, m and d being the mean and the standard deviation of a Gaussian process
    of the forecasts over the logarithm of the learning rate. The stage is then trained from the saved state at the
    candidate with the lowest forecast. With ten candidates the search takes as many steps as the run.

    Source: Jin et al. 2021, AutoLRS: Automatic Learning-Rate Schedule by Bayesian Optimization on the Fly,
        arXiv:2105.10762; the authors' code, github.com/YuchenJin/autolrs.
    Deviation: stages are of equal length and begin at decisions (theirs: 1,000 steps after a warm-up, then twice
        as many each time); validation losses are forecast in all of them (theirs: training losses at first);
        outliers are those of the exponential itself (theirs: of splines). The first candidate is not random, and
        kappa is 1 (theirs: 1e6, all exploration; that made no clear difference here).

    Attributes:
        stages: of the run, at least 1.
        candidates: learning rates tried at each, at least 1.
        share: of a stage that a trial takes, in (0, 1]; it takes three steps at least.
        span: largest factor between a candidate and the base learning rate, at least 1.
        kappa: weight of the uncertainty, at least 0.
    """

    stages: int = 5
    candidates: int = 10
    share: float = 0.1
    span: float = 100.0
    kappa: float = 1.0

    def __post_init__(self) -> None:
        _check.integer("stages", self.stages, 1)
        _check.integer("candidates", self.candidates, 1)
        _check.real("share", self.share, 1e-3, 1.0)
        _check.real("span", self.span, 1.0, 1e6)
        _check.real("kappa", self.kappa, 0.0)

    def run(self, task: Task, seed: int) -> Driven:
        """See `Driver`."""
        run = TorchRun(task, reads=frozenset({"loss"}))
        run.reset(seed)
        spec, record, spent = run.spec, Record(), 0
        starts = np.append(0, spec.decision_steps[0])
        total = int(spec.num_steps[0])
        stage_of = starts * self.stages // total
        scale, window = 1.0, Window.opening(spec)
        for index, (start, stop) in enumerate(zip(starts, np.append(starts[1:], total), strict=True)):
            if index == 0 or stage_of[index] != stage_of[index - 1]:
                end = starts[stage_of > stage_of[index]]
                scale, cost = self._search(run, scale, int(end[0] if len(end) else total) - start)
                spent += cost
            length = int(stop - start)
            window = run.advance(length, np.full(length, scale), spec.bucket_shares[0])
            done = run.counters()[0]
            loss = math.inf if window.nonfinite[0] else run.validation_loss()
            if not record.window(done, float(spec.base_lr[0, 0]) * scale, loss):
                break
        return record.driven(run.test_loss(), spent + run.counters()[0])

    def _search(self, run: TorchRun, scale: float, length: int) -> tuple[float, int]:
        """The scale for a stage of `length` steps from where `run` stands, and stands again; the steps it took."""
        steps = max(math.ceil(self.share * length), min(FEWEST_STEPS, length))
        saved, before, spent = run.state_dict(), run.validation_loss(), 0
        half = round(PER_DECADE * math.log10(self.span))
        scales = 10.0 ** (np.arange(-half, half + 1) / PER_DECADE)
        place = int(np.argmin(np.abs(np.log(scales / scale))))
        tried: list[int] = []
        forecasts: list[float] = []
        while True:
            found, cost = _trial(run, scales[place], steps, length, before)
            run.load_state_dict(saved)
            spent += cost
            tried.append(place)
            forecasts.append(found)
            if len(tried) == min(self.candidates, len(scales)):
                break
            # Whatever ends above where it began is as bad as any: its height would drown the rest.
            place = propose(np.log10(scales), tried, np.minimum(forecasts, before), self.kappa)
        # If none is any good, the least harm.
        chosen = tried[int(np.argmin(forecasts))] if np.isfinite(forecasts).any() else min(tried)
        return float(scales[chosen]), spent


def _trial(run: TorchRun, scale: float, steps: int, length: int, before: float) -> tuple[float, int]:
    """The loss that `steps` steps at `scale` promise after `length`, inf if they fail, and the steps done."""
    start = run.counters()[0]
    ends = np.unique(np.linspace(0, steps, min(steps, MEASUREMENTS) + 1).round().astype(int))
    losses = [before]
    for width in np.diff(ends):
        window = run.advance(int(width), np.full(width, scale), run.spec.bucket_shares[0])
        losses.append(math.inf if window.nonfinite[0] else run.validation_loss())
        if not math.isfinite(losses[-1]):
            return math.inf, run.counters()[0] - start
    return exponential_forecast(ends.astype(float), np.array(losses), float(length)), steps


def propose(points: Array, tried: list[int], values: Array, kappa: float) -> int:
    """The place in `points` (n,), not among those `tried`, whose confidence bound by their `values` is lowest."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern

    # In decades. Fixed: a handful of values says little of the kernel, and fits of it end at their bounds.
    process = GaussianProcessRegressor(Matern(0.5, nu=2.5), alpha=1e-2, optimizer=None, normalize_y=True)
    process.fit(points[tried, None], values)
    mean, deviation = process.predict(points[:, None], return_std=True)
    bound = mean - kappa * deviation
    bound[tried] = np.inf
    return int(np.argmin(bound))
