"""Settings of tasks on a pool of examples, and what families of them draw."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlsched import _check
from rlsched.envs.tasks.task import TaskConfig, TaskFamily

DECISIONS = (10, 20, 25, 50, 100)
"""Divisors of 100, so that whole episodes fill a rollout of 100 decisions."""
FEWEST = 80
"""Training examples that a task has at least."""
FARTHEST = 2.5
"""Standard deviations by which the mean of inputs is off zero at most, where it is. Pixels are off by 1 to 2."""
SCORERS = ("probe", "reference_loss", "forgetting", "loss_variance")


@dataclass(frozen=True, kw_only=True)
class DataConfig(TaskConfig):
    """Settings of tasks on a pool of examples.

    Attributes:
        scorer: of the difficulty: "probe", a cheap one of the family's (mostly `rlsched.linear_probe_scores`), or
            a short reference training's "reference_loss", "forgetting" or "loss_variance".
        num_examples: training examples at most, before imbalance; at least two batches are used.
        num_validation: validation examples at most. They are read at every decision, where a full pass would
            cost more than the training between two of them.
        label_noise: share of training examples with a wrong target, in [0, 0.9].
        noisy_validation: whether validation targets are as noisy as the training targets.
        imbalance: examples of the rarest class relative to the commonest, in (0, 1]; classification alone.
        duplicates: share of training examples that are copies of a few easy ones, in [0, 0.9].
        domain_skew: 0 where all examples are alike; otherwise examples come from `num_buckets` domains, each
            harder to read than the last, and validation and test weigh them by shares that are exp(skew) apart.
        input_scale: factor of the inputs, in [0.01, 100], after they are standardised; 1 for tokens.
        input_offset: mean of the inputs in their standard deviations, in [0, 10]: pixels in [0, 1] are about 1 to
            2. Its sign would make no difference, as initial weights are symmetric; 0 for tokens.
        drift: share of the run during which the training data are others than those it is judged by, in [0, 1).
    """

    scorer: str = "probe"
    num_examples: int = 800
    num_validation: int = 128
    label_noise: float = 0.0
    noisy_validation: bool = False
    imbalance: float = 1.0
    duplicates: float = 0.0
    domain_skew: float = 0.0
    drift: float = 0.0
    input_scale: float = 1.0
    input_offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("scorer", self.scorer, SCORERS)
        _check.integer("num_examples", self.num_examples, 10)
        _check.integer("num_validation", self.num_validation, 1)
        _check.real("label_noise", self.label_noise, 0.0, 0.9)
        _check.real("imbalance", self.imbalance, 0.01, 1.0)
        _check.real("duplicates", self.duplicates, 0.0, 0.9)
        _check.real("domain_skew", self.domain_skew, 0.0, 10.0)
        _check.real("drift", self.drift, 0.0, 0.99)
        _check.real("input_scale", self.input_scale, 0.01, 100.0)
        _check.real("input_offset", self.input_offset, 0.0, 10.0)
        if self.bucket_by == "domain" and not self.domain_skew:
            raise ValueError('domain_skew must be > 0 where bucket_by is "domain", got 0.')


@dataclass(frozen=True)
class DataFamily(TaskFamily):
    """Common ground of families on a pool of examples: what is drawn for each of their tasks.

    Half of the tasks have noisy labels (10 to 40 %), and in a quarter of all the validation labels are as noisy;
    classes are imbalanced in a third; a quarter each have duplicates, domains and drift. The base learning rate is
    misjudged log-uniformly.

    Attributes:
        num_buckets: buckets of every task.
        misjudged: largest factor between the base learning rate and a sensible one, at least 1.
        min_steps: fewest optimizer steps; their number is log-uniform.
        max_steps: most optimizer steps.
        min_batch: smallest batch; batch sizes are powers of two.
        max_batch: largest batch.
        steered: share of the tasks that have a curriculum, in [0, 1].
        epochs: fewest and most passes over the training examples, log-uniform between; a run is given as many
            examples as that takes, and batches that a family has the examples for, as far as it can. The best
            learning rate goes by them. None for 80 to 1,000 examples in runs of any length.
        told_epochs: likewise, of the half of the tasks that tell how many; None if none do. A policy that is not
            told expects what it has seen untold.
        input_scales: largest factor by which inputs are larger or smaller than standardised ones, in [1, 100];
            log-uniform. `sensible_lr` does not know of it. 1 for families of tokens.
        off_centre: share of the tasks whose inputs have a mean other than 0, uniform up to `FARTHEST` standard
            deviations, in [0, 1]; `sensible_lr` does not know of it. 0 for families of tokens.
        like: a task that all share the length and the batch with, so that their examples go by these; and whether
            epochs are told. See `sample_like`.
    """

    num_buckets: int = 4
    misjudged: float = 100.0
    min_steps: int = 100
    max_steps: int = 2000
    min_batch: int = 8
    max_batch: int = 256
    steered: float = 0.75
    epochs: tuple[float, float] | None = None
    told_epochs: tuple[float, float] | None = None
    input_scales: float = 1.0
    off_centre: float = 0.0
    like: TaskConfig | None = None

    reference_lr: ClassVar[dict[str, float]] = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01}
    """Learning rates about right for the family; base learning rates are misjudged around them."""
    most_examples: ClassVar[float] = math.inf
    """Training examples that the family has at most, or that it would take too long to make more of."""

    def __post_init__(self) -> None:
        _check.integer("num_buckets", self.num_buckets, 1, 32)
        _check.real("misjudged", self.misjudged, 1.0, 1e4)
        _check.integer("min_steps", self.min_steps, 12)
        _check.integer("max_steps", self.max_steps, self.min_steps)
        _check.integer("min_batch", self.min_batch, 1)
        _check.integer("max_batch", self.max_batch, self.min_batch)
        _check.real("steered", self.steered, 0.0, 1.0)
        _check.real("input_scales", self.input_scales, 1.0, 100.0)
        _check.real("off_centre", self.off_centre, 0.0, 1.0)
        for name in ("epochs", "told_epochs"):
            if (epochs := getattr(self, name)) is not None:
                least, most = epochs
                _check.real(f"{name}[0]", least, 0.01, 1e6)
                _check.real(f"{name}[1]", most, least, 1e6)
        if not self._batches():
            raise ValueError(
                f"min_batch to max_batch must hold a power of two, got {self.min_batch} to {self.max_batch}."
            )

    def _batches(self) -> list[int]:
        return [2**power for power in range(20) if self.min_batch <= 2**power <= self.max_batch]

    def _sample_batch(self, rng: np.random.Generator, num_steps: int, epochs: tuple[float, float] | None) -> int:
        batches = self._batches()
        if epochs is not None:
            most = epochs[1] * self.most_examples
            batches = [size for size in batches if num_steps * size <= most] or batches[:1]
        return int(rng.choice(batches))

    def _sample_examples(
        self, rng: np.random.Generator, num_steps: int, batch_size: int, epochs: tuple[float, float] | None
    ) -> int:
        if epochs is None:
            return round(log_uniform(rng, FEWEST, 1000))
        examples = math.ceil(num_steps * batch_size / log_uniform(rng, *epochs))
        return int(min(max(examples, FEWEST), self.most_examples))

    def sample_like(self, rng: np.random.Generator, first: TaskConfig) -> TaskConfig:
        """See `TaskFamily`; the base learning rate stays as misjudged as it was drawn, and epochs are as many."""
        config = dataclasses.replace(self, like=first).sample(rng)
        scale = self.reference_lr[first.optimizer] / self.reference_lr[config.optimizer]
        shared = {name: getattr(first, name) for name in first.shared}
        return dataclasses.replace(config, base_lr=config.base_lr * scale, **shared)

    def sensible_lr(self, config: TaskConfig) -> float:
        """See `TaskFamily`: the family's own for the optimizer."""
        return self.reference_lr[config.optimizer]

    def common(self, rng: np.random.Generator) -> dict[str, Any]:
        """The settings of `DataConfig`, drawn from `rng`."""
        optimizer = str(rng.choice(sorted(self.reference_lr)))
        decades = math.log10(self.misjudged)
        num_steps = round(log_uniform(rng, self.min_steps, self.max_steps))
        domains, bucket_by = rng.random() < 0.25, "difficulty"
        if rng.random() < 1 / 3:
            bucket_by = "online"
        elif domains and rng.random() < 0.5:
            bucket_by = "domain"
        data_seed = int(rng.integers(2**31))
        num_decisions = int(rng.choice([n for n in DECISIONS if n < num_steps]))
        told = happens(rng, 0.0 if self.told_epochs is None else 0.5)
        batch_size = self._sample_batch(rng, num_steps, self.told_epochs if told else self.epochs)
        if (like := self.like) is not None:
            num_steps, num_decisions, batch_size = like.num_steps, like.num_decisions, like.batch_size
            told = like.epochs_known
        epochs = self.told_epochs if told else self.epochs
        return {
            "data_seed": data_seed,
            "num_steps": num_steps,
            "num_decisions": num_decisions,
            "batch_size": batch_size,
            "optimizer": optimizer,
            "base_lr": self.reference_lr[optimizer] * 10 ** rng.uniform(-decades, decades),
            "curriculum": bool(rng.random() < self.steered),
            "feedback": bool(rng.random() < 0.5),
            "batch_size_known": bool(rng.random() < 0.75),
            "epochs_known": told,
            "num_buckets": self.num_buckets,
            "bucket_by": bucket_by,
            "probed": bool(rng.random() < 0.25),
            # A reference training costs as much as fifty builds without.
            "scorer": str(rng.choice(SCORERS, p=[0.985, 0.005, 0.005, 0.005])),
            "num_examples": self._sample_examples(rng, num_steps, batch_size, epochs),
            "label_noise": float(rng.uniform(0.1, 0.4)) if rng.random() < 0.5 else 0.0,
            "noisy_validation": bool(rng.random() < 0.25),
            "imbalance": log_uniform(rng, 0.1, 1.0) if rng.random() < 1 / 3 else 1.0,
            "duplicates": float(rng.uniform(0.1, 0.6)) if rng.random() < 0.25 else 0.0,
            "domain_skew": float(rng.uniform(0.5, 3.0)) if domains else 0.0,
            "drift": float(rng.uniform(0.1, 0.6)) if rng.random() < 0.25 else 0.0,
            "input_scale": scaled(rng, self.input_scales),
            "input_offset": float(rng.uniform(0.0, FARTHEST)) if happens(rng, self.off_centre) else 0.0,
        }


def scaled(rng: np.random.Generator, most: float) -> float:
    """A factor up to `most` either way, log-uniform; where that is 1 nothing is drawn, as in `happens`."""
    return 1.0 if most == 1.0 else log_uniform(rng, 1.0 / most, most)


def happens(rng: np.random.Generator, share: float) -> bool:
    """True with probability `share`; where that is 0 nothing is drawn, so that what follows stays as it was."""
    return share > 0.0 and bool(rng.random() < share)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [low, high], uniform on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
