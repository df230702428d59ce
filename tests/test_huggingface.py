"""rlsched in Hugging Face's Trainer and Accelerate."""

import itertools
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.scheduler import AcceleratedScheduler
from torch.utils.data import DataLoader, TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from rlsched import Linear, RLScheduler
from rlsched.integrations.huggingface import attach
from tests.loops import start
from tests.policies import random_policy

pytestmark = pytest.mark.filterwarnings("default")  # theirs, which are not ours to mend

GENERATOR = torch.Generator().manual_seed(0)
DATA = [{"input_ids": row, "labels": row} for row in torch.randint(30, (64, 8), generator=GENERATOR)]


def model():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=30, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config)


class Recorder(TrainerCallback):
    """Learning rates as they are used."""

    def __init__(self):
        self.rates = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append(optimizer.param_groups[0]["lr"])


def make_trainer(folder, recorder=None, trainer=Trainer, **arguments):
    defaults = {
        "max_steps": 24, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "use_cpu": True,
        "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1000, "seed": 3,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(folder), **defaults | arguments)
    callbacks = [] if recorder is None else [recorder]
    return trainer(model(), args, train_dataset=DATA, eval_dataset=DATA[:8], callbacks=callbacks)


def weights(trainer):
    return torch.cat([parameter.detach().reshape(-1) for parameter in trainer.model.parameters()])


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_policy_sees_the_loss_of_every_step(tmp_path, accumulated):
    seen = []

    class Listening(Trainer):
        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            seen.append(float(loss))
            return loss

    recorder = Recorder()
    trainer = make_trainer(tmp_path, recorder, Listening, gradient_accumulation_steps=accumulated)
    attach(trainer, random_policy(1), num_decisions=8)
    trainer.train()
    scheduler = trainer.lr_scheduler
    losses = np.array(seen).reshape(24, accumulated).sum(axis=1)
    assert losses[0] == pytest.approx(math.log(30), rel=0.2), "a mean loss per token, whatever the accumulation"
    history = scheduler.history()
    bounds = history["step"]
    expected = [losses[a:b].mean() for a, b in itertools.pairwise(bounds)]
    np.testing.assert_allclose(history["loss"][1:], expected, rtol=1e-6)
    assert scheduler.last_epoch == 24
    assert scheduler.batch_size == 4 * accumulated
    assert scheduler.epochs == 24 * 4 * accumulated / len(trainer.train_dataset)
    assert len(set(recorder.rates)) > 20
    assert scheduler.events == []


def test_a_run_resumed_from_a_checkpoint_is_bit_exact(tmp_path):
    whole = Recorder()
    trainer = make_trainer(tmp_path / "whole", whole, save_strategy="steps", save_steps=11)
    attach(trainer, random_policy(1))
    trainer.train()
    again = Recorder()
    resumed = make_trainer(tmp_path / "again", again)
    attach(resumed, random_policy(1))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-11"))
    assert again.rates == whole.rates[11:]
    assert torch.equal(weights(resumed), weights(trainer))
    assert resumed.lr_scheduler.events == []


def test_evaluations_reach_the_policy(tmp_path):
    rates = []
    for strategy in ("no", "steps"):
        recorder = Recorder()
        trainer = make_trainer(tmp_path, recorder, eval_strategy=strategy, eval_steps=2)
        attach(trainer, random_policy(1))
        trainer.evaluate()
        trainer.train()
        rates.append(recorder.rates)
    assert rates[0] != rates[1]


def test_a_scheduler_of_ones_own_is_used(tmp_path):
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    scheduler = RLScheduler(optimizer, 24, random_policy(1))
    args = make_trainer(tmp_path).args
    trainer = Trainer(network, args, train_dataset=DATA, optimizers=(optimizer, scheduler))
    attach(trainer)
    trainer.train()
    assert np.isfinite(scheduler.history()["loss"][1:]).all()
    assert scheduler.last_epoch == 24


def test_what_cannot_be_attached_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"trainer must be a transformers\.Trainer, got str"):
        attach("trainer", random_policy(1))
    with pytest.raises(FileNotFoundError, match="no policy file"):
        attach(make_trainer(tmp_path), tmp_path / "none.safetensors")
    network, optimizer = start()
    for scheduler, policy, words in (
        (torch.optim.lr_scheduler.ConstantLR(optimizer), None, "must be an RLScheduler, got ConstantLR"),
        (
            RLScheduler(optimizer, 10, controller=Linear()),
            random_policy(1),
            "policy and options must not be given",
        ),
    ):
        trainer = Trainer(network, make_trainer(tmp_path).args, optimizers=(optimizer, scheduler))
        with pytest.raises(TypeError, match=words):
            attach(trainer, policy)


def test_accelerate_with_an_unprepared_scheduler_is_a_plain_loop():
    def rates(accelerated):
        network, optimizer = start()
        generator = torch.Generator().manual_seed(1)
        x, y = torch.randn(96, 6, generator=generator), torch.randint(3, (96,), generator=generator)
        loader = DataLoader(TensorDataset(x, y), batch_size=4)
        scheduler = RLScheduler(optimizer, 12, random_policy(1))
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        if accelerated:
            network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
        seen, parts = [], []
        for features, labels in loader:
            loss = torch.nn.functional.cross_entropy(network(features), labels)
            parts.append(loss.detach())
            if accelerated:
                with accelerator.accumulate(network):
                    accelerator.backward(loss)
                    optimizer.step()
                    optimizer.zero_grad()
                done = accelerator.sync_gradients
            else:
                (loss / 2).backward()
                done = len(parts) == 2
                if done:
                    optimizer.step()
                    optimizer.zero_grad()
            if done:
                seen.append(optimizer.param_groups[0]["lr"])
                scheduler.step(torch.stack(parts).mean())
                parts = []
        assert scheduler.events == []
        return seen

    assert rates(True) == rates(False)


def test_a_scheduler_of_a_prepared_optimizer_is_one_of_the_optimizer_inside():
    network, optimizer = start()
    _, prepared = Accelerator(cpu=True).prepare(network, optimizer)
    scheduler = RLScheduler(prepared, 20, random_policy(1))
    assert scheduler.optimizer is optimizer


def test_a_scheduler_that_accelerate_steps_once_per_process_is_noticed():
    _, optimizer = start()
    accelerator = Accelerator(cpu=True)
    scheduler = RLScheduler(optimizer, 100, random_policy(1), on_event=lambda event: None)
    optimizer = accelerator.prepare(optimizer)
    prepared = AcceleratedScheduler(scheduler, optimizer, split_batches=False)
    # What it does with two processes, without starting them.
    for _ in range(20):
        optimizer.step()
        for _ in range(2):
            prepared.step(1.0)
    assert [event.kind for event in scheduler.events] == ["stepped_too_often"]
