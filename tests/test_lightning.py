"""rlsched in Lightning's Trainer."""

import itertools

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rlsched import Buckets, CurriculumSampler, RLScheduler
from rlsched.integrations.lightning import RLSchedulerCallback
from tests.policies import random_policy

pytestmark = pytest.mark.filterwarnings("default")  # theirs, which are not ours to mend

GENERATOR = torch.Generator().manual_seed(0)
DATA = TensorDataset(torch.randn(96, 6, generator=GENERATOR), torch.randint(3, (96,), generator=GENERATOR))


class Classifier(pl.LightningModule):
    def __init__(self, interval="step", validates=False, per_example=False):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 3)
        self.interval, self.validates, self.per_example = interval, validates, per_example
        self.losses, self.rates = [], []

    def training_step(self, batch, batch_idx):
        losses = nn.functional.cross_entropy(self.layer(batch[0]), batch[1], reduction="none")
        if self.per_example:
            self.lr_schedulers().report_loss(losses)
        self.losses.append(float(losses.mean().detach()))
        return losses.mean()

    def validation_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
        if self.validates:
            self.log("val_loss", loss)

    def on_before_optimizer_step(self, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        self.scheduler = RLScheduler(optimizer, self.trainer.estimated_stepping_batches, random_policy(1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler, "interval": self.interval}}


def fit(module, folder, steps=24, *, ckpt_path=None, loader=None, callbacks=(), **arguments):
    defaults = {"limit_val_batches": 0, "enable_checkpointing": False}
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, callbacks=[RLSchedulerCallback(), *callbacks], **defaults | arguments,
    )  # fmt: skip
    trainer.fit(
        module, loader or DataLoader(DATA, batch_size=4), DataLoader(DATA, batch_size=32), ckpt_path=ckpt_path
    )
    return trainer


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_policy_sees_the_loss_of_every_step(tmp_path, accumulated):
    module = Classifier()
    fit(module, tmp_path, accumulate_grad_batches=accumulated)
    losses = np.array(module.losses).reshape(24, accumulated).mean(axis=1)
    history = module.scheduler.history()
    expected = [losses[a:b].mean() for a, b in itertools.pairwise(history["step"])]
    np.testing.assert_allclose(history["loss"][1:], expected, rtol=1e-6)
    assert module.scheduler.last_epoch == 24
    assert module.scheduler.events == []


def test_what_is_left_of_an_accumulation_is_a_mean_too(tmp_path):
    module = Classifier()
    fit(module, tmp_path, steps=4, accumulate_grad_batches=7)
    losses = [np.mean(module.losses[start : start + 7]) for start in (0, 7, 14, 21)]
    np.testing.assert_allclose(module.scheduler.history()["loss"][1:], losses, rtol=1e-6)


def test_a_batch_that_the_module_skips_has_no_loss(tmp_path):
    class Skipping(Classifier):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 5 else super().training_step(batch, batch_idx)

    module = Skipping()
    fit(module, tmp_path)
    assert np.nanmin(module.scheduler.history()["loss"]) > 0.1
    assert module.scheduler.events == []


def test_losses_are_free_of_the_scale_of_mixed_precision(tmp_path):
    precision = MixedPrecision(
        "16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=5)
    )
    module = Classifier()
    fit(module, tmp_path, plugins=[precision])
    assert np.nanmax(module.scheduler.history()["loss"]) < 3.0


def test_a_run_resumed_from_a_checkpoint_is_bit_exact(tmp_path):
    # Lightning does not go on with the data where they were: all batches are the same.
    x, y = DATA.tensors
    loader = DataLoader(TensorDataset(x[:4].repeat(24, 1), y[:4].repeat(24)), batch_size=4)
    keep = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=11, save_top_k=-1, filename="{step}")
    whole = Classifier()
    fit(whole, tmp_path, loader=loader, callbacks=[keep], enable_checkpointing=True)
    again = Classifier()
    fit(again, tmp_path, loader=loader, ckpt_path=str(tmp_path / "step=11.ckpt"))
    assert again.rates == whole.rates[11:]
    for one, other in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_logged_validation_loss_reaches_the_policy(tmp_path):
    modules = [Classifier(validates=validates) for validates in (False, True)]
    for module in modules:
        fit(module, tmp_path, limit_val_batches=1, val_check_interval=3)
    assert modules[0].rates != modules[1].rates


def test_a_curriculum_gets_the_losses_that_the_module_reports(tmp_path):
    class WithSampler(Classifier):
        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
            self.scheduler = RLScheduler(optimizer, 60, random_policy(1))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler, "interval": "step"}}

        def train_dataloader(self):
            sampler = CurriculumSampler(Buckets.online(len(DATA)), 4, self.scheduler)
            return DataLoader(DATA, batch_sampler=sampler)

    module = WithSampler(per_example=True)
    trainer = pl.Trainer(
        max_steps=60, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path, use_distributed_sampler=False,
        callbacks=[RLSchedulerCallback()],
    )  # fmt: skip
    trainer.fit(module)
    assert module.scheduler.events == []
    assert (module.scheduler.history()["bucket_weights"][-1] != 0.25).any()


def test_an_interval_of_epochs_is_refused(tmp_path):
    with pytest.raises(ValueError, match='interval must be "step", with frequency 1, got "epoch" and 1'):
        fit(Classifier(interval="epoch"), tmp_path)


def test_a_module_without_an_rlscheduler_is_refused(tmp_path):
    class Plain(Classifier):
        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    with pytest.raises(ValueError, match="configure_optimizers must return an RLScheduler, got none"):
        fit(Plain(), tmp_path)
