"""rlsched in a Hugging Face `Trainer`."""

from __future__ import annotations

import math
import os
import re
from typing import Any

import torch
from torch.optim import Optimizer
from transformers import Trainer, TrainerCallback

from rlsched.policy import Policy
from rlsched.scheduler import RLScheduler


def attach(trainer: Trainer, policy: Policy | str | os.PathLike[str] | None = None, **options: Any) -> None:
    """Let a policy set the learning rate of `trainer`.

        trainer = Trainer(model, args, train_dataset=data)
        rlsched.integrations.huggingface.attach(trainer, "policy.safetensors")
        trainer.train()

    The Trainer steps its scheduler without a loss; this takes the loss from each of its training steps, summed
    over accumulated gradients, and `eval_loss` whenever the Trainer evaluates. `learning_rate` of the arguments is
    the base; `lr_scheduler_type` and warm-up settings play no part. `train(resume_from_checkpoint=...)` continues
    the schedule where it was.

    Args:
        trainer: that has not begun to train.
        policy: an exported policy, or the path of one; or none, if `trainer` was given an `RLScheduler` of yours
            by `optimizers=(optimizer, scheduler)`.
        options: further arguments of the `RLScheduler`; the number of steps, the batch size and the number
            of epochs are the Trainer's.

    Raises:
        TypeError: `trainer` is no Trainer, or is given a scheduler twice or not at all.
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must be a transformers.Trainer, got {type(trainer).__name__}.")
    given = trainer.lr_scheduler
    if given is None:
        # Loaded now, rather than when it trains.
        loaded = Policy.load(policy) if isinstance(policy, str | os.PathLike) else policy
        _create_by_trainer(trainer, loaded, options)
    elif not isinstance(given, RLScheduler):
        raise TypeError(
            f"the Trainer's scheduler must be an RLScheduler, got {type(given).__name__}: "
            "pass optimizers=(optimizer, None), or an RLScheduler in its place."
        )
    elif policy is not None or options:
        raise TypeError("policy and options must not be given: the Trainer has an RLScheduler in optimizers=.")
    callback = _Reporter(trainer)
    take_step = trainer.training_step

    def training_step(*args: Any, **kwargs: Any) -> torch.Tensor:
        loss = take_step(*args, **kwargs)
        callback.add(loss)
        return loss

    trainer.training_step = training_step
    trainer.add_callback(callback)


def _create_by_trainer(trainer: Trainer, policy: Policy | None, options: dict[str, Any]) -> None:
    """Let `trainer` make the scheduler when it knows how long it will train."""

    def create_scheduler(num_training_steps: int, optimizer: Optimizer | None = None) -> Any:
        if trainer.lr_scheduler is None:
            args = trainer.args
            size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            data: Any = trainer.train_dataset
            # A data set that streams has no length.
            epochs = num_training_steps * size / len(data) if hasattr(data, "__len__") and len(data) else None
            known = {"batch_size": size, "epochs": epochs}
            trainer.lr_scheduler = RLScheduler(
                optimizer or trainer.optimizer, num_training_steps, policy, **known | options
            )
            trainer._created_lr_scheduler = True
        return trainer.lr_scheduler

    trainer.create_scheduler = create_scheduler


class _Reporter(TrainerCallback):
    """Brings losses from the Trainer to its scheduler."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._total: torch.Tensor | float = 0.0

    def add(self, loss: torch.Tensor) -> None:
        """The loss of a batch; the Trainer scales those of a step so that their sum is the step's."""
        self._total = self._total + loss

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._scheduler.report_loss(self._total)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._total = 0.0

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None,
                    **kwargs: Any) -> None:  # fmt: skip
        # Each of several data sets is an evaluation of its own; one is possible before training, too.
        losses = [value for name, value in (metrics or {}).items() if re.fullmatch(r"eval_(.+_)?loss", name)]
        if losses and math.isfinite(losses[0]) and isinstance(self._trainer.lr_scheduler, RLScheduler):
            self._scheduler.report_validation(losses[0])

    @property
    def _scheduler(self) -> RLScheduler:
        scheduler = self._trainer.lr_scheduler
        if not isinstance(scheduler, RLScheduler):
            raise TypeError(f"the Trainer's scheduler must be an RLScheduler, got {type(scheduler).__name__}.")
        return scheduler
