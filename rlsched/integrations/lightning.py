"""rlsched in a Lightning `Trainer`."""

from __future__ import annotations

import math
import warnings
from typing import Any

import lightning.pytorch as pl
import torch

from rlsched.scheduler import RLScheduler


class RLSchedulerCallback(pl.Callback):
    """Brings the losses of automatic optimization to the `RLScheduler` that a module configured.

    Lightning steps schedulers without a loss. Configure yours to be stepped with the optimizer, and pass this:

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
            scheduler = RLScheduler(optimizer, self.trainer.estimated_stepping_batches, "policy.safetensors")
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

        Trainer(callbacks=[RLSchedulerCallback()])

    The loss of a step is the mean of its batches' losses where gradients are accumulated. A module may report the
    losses of the examples of all the step's batches itself, by `scheduler.report_loss` in `training_step`: they
    are then left as they are. In manual optimization, call `scheduler.step(loss)`.

    Args:
        monitor: name of a logged validation loss, which is reported after each validation if there is one.
    """

    def __init__(self, monitor: str = "val_loss") -> None:
        self._monitor = monitor
        self._total: torch.Tensor | float = 0.0
        self._count = 0
        self._schedulers: list[RLScheduler] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the schedulers; ValueError if there is none, or if it would not be stepped with the optimizer."""
        configs = [each for each in trainer.lr_scheduler_configs if isinstance(each.scheduler, RLScheduler)]
        self._schedulers = [each.scheduler for each in configs if isinstance(each.scheduler, RLScheduler)]
        if not configs and pl_module.automatic_optimization:
            raise ValueError(
                "configure_optimizers must return an RLScheduler, got none: "
                'return {"optimizer": ..., "lr_scheduler": {"scheduler": RLScheduler(...), "interval": "step"}}.'
            )
        self._total, self._count = 0.0, 0
        for config in configs if pl_module.automatic_optimization else []:
            if config.interval != "step" or config.frequency != 1:
                raise ValueError(
                    'the lr_scheduler\'s interval must be "step", with frequency 1, got '
                    f'"{config.interval}" and {config.frequency}: add "interval": "step" beside "scheduler".'
                )

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        """A batch's loss, which Lightning has scaled for accumulation and mixed precision."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()
        self._total = self._total + loss.detach() * (trainer.accumulate_grad_batches / scale)
        self._count += 1

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """All batches of the step are done, but those for which `training_step` returned None."""
        for scheduler in self._schedulers:
            if self._count and not scheduler.loss_reported:
                scheduler.report_loss(self._total / self._count)
        self._total, self._count = 0.0, 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the validation loss, if one was logged."""
        if self._monitor not in trainer.callback_metrics:
            warnings.warn(
                f"the module logs no {self._monitor!r}, so that no validation loss reaches the scheduler: log it, "
                "or pass RLSchedulerCallback(monitor=...).",
                stacklevel=2,
            )
        loss = float(trainer.callback_metrics.get(self._monitor, math.nan))
        if not trainer.sanity_checking and math.isfinite(loss):
            for scheduler in self._schedulers:
                scheduler.report_validation(loss)
