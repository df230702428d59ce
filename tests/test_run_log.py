"""What a scheduled run writes down, and the picture of it."""

import json
import math

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from rlsched import Buckets, Constant, CurriculumSampler, RLScheduler
from rlsched.experiments import cli
from rlsched.run_log import read_run_log
from tests.loops import start
from tests.policies import random_policy


def run(log_to, steps=40, at=0, state=None, fail=(), curriculum=True):
    _, optimizer = start()
    scheduler = RLScheduler(
        optimizer, 40, random_policy(1), num_decisions=10, log_to=log_to, on_event=lambda event: None
    )
    sampler = CurriculumSampler(Buckets.from_scores(np.arange(80.0)), 8, scheduler) if curriculum else None
    if state is not None:
        scheduler.load_state_dict(state)
    for step in range(at, steps):
        optimizer.step()
        losses = torch.linspace(1.0, 2.0, 8) / (1 + step)
        if sampler is not None:
            sampler.draw()
        scheduler.report_validation(1.0 + step)
        scheduler.step(losses * math.nan if step in fail else losses)
    return scheduler


def test_the_file_is_the_history(tmp_path):
    scheduler = run(tmp_path / "logs" / "run.jsonl", fail=[13])
    decisions, events = read_run_log(tmp_path / "logs" / "run.jsonl")
    history = scheduler.history()
    assert [row["step"] for row in decisions] == history["step"].tolist()
    for name in ("lr", "loss", "validation_loss", "bucket_weights"):
        logged = np.array([row[name] for row in decisions], dtype=float)
        np.testing.assert_array_equal(logged, np.where(np.isfinite(history[name]), history[name], np.nan))
    assert events == scheduler.events
    assert [(event.step, event.kind) for event in events] == [(14, "non_finite_loss")]


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path):
    whole, again = tmp_path / "whole.jsonl", tmp_path / "again.jsonl"
    run(whole, fail=[5, 30], curriculum=False)
    state = run(again, steps=20, fail=[5], curriculum=False).state_dict()
    # Lost: it was killed in the midst of a line, and resumed from step 20 once more.
    run(again, steps=35, at=20, state=state, fail=[21, 30], curriculum=False)
    with again.open("a") as file:
        file.write('{"step": 3')
    run(again, at=20, state=state, fail=[30], curriculum=False)
    assert read_run_log(again) == read_run_log(whole)


def test_trackers_get_the_same_numbers(tmp_path):
    seen: dict[str, list] = {"function": [], "mlflow": [], "wandb": []}

    class Mlflow:
        def log_metrics(self, metrics, step):
            seen["mlflow"].append((step, metrics))

    class Wandb:
        def log(self, metrics):
            seen["wandb"].append((metrics.pop("rlsched/step"), metrics))

    for target in (lambda step, numbers: seen["function"].append((step, numbers)), Mlflow(), Wandb()):
        scheduler = run(target)
    assert seen["function"] == seen["mlflow"] == seen["wandb"]
    history = scheduler.history()
    assert [step for step, _ in seen["function"]] == history["step"].tolist()
    assert [numbers["rlsched/lr"] for _, numbers in seen["function"]] == history["lr"][:, 0].tolist()
    assert seen["function"][-1][1]["rlsched/bucket_weight/3"] == history["bucket_weights"][-1, 3]

    with SummaryWriter(str(tmp_path)) as writer:
        run(writer)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    logged = {name: [event.value for event in read.Scalars(name)] for name in read.Tags()["scalars"]}
    assert set(logged) == set(seen["function"][-1][1])
    np.testing.assert_allclose(logged["rlsched/loss"], history["loss"][1:], rtol=1e-6)


def test_another_target_is_refused(tmp_path):
    with pytest.raises(TypeError, match="log_to must be a path, a SummaryWriter"):
        RLScheduler(start()[1], 10, controller=Constant(), log_to=3)
    with pytest.raises(ValueError, match="log_to must name a file, got the folder"):
        RLScheduler(start()[1], 10, controller=Constant(), log_to=tmp_path)


@pytest.mark.parametrize("curriculum", [True, False])
def test_the_run_is_drawn(tmp_path, capsys, curriculum):
    log = tmp_path / "run.jsonl"
    run(log, fail=[13], curriculum=curriculum)
    assert cli.main(["plot", str(log)]) == 0
    assert "step 14: the loss at step 14 is not finite" in capsys.readouterr().out
    assert (tmp_path / "run.png").stat().st_size > 10_000
    assert cli.main(["plot", str(log), "--out", str(tmp_path / "other.png")]) == 0
    assert (tmp_path / "other.png").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "line 1 is none of a run's log"),
        ('{"step": 1}', "line 1 is none of a run's log"),
        ("[1, 2]", "line 1 is none of a run's log"),
        ("loss: 3", "line 1 is none of a run's log"),
        ("", "holds no decision yet"),
        (json.dumps({"step": 1, "event": "a", "message": "b"}), "holds no decision yet"),
    ],
)
def test_another_file_is_refused(tmp_path, capsys, content, words):
    log = tmp_path / "run.jsonl"
    log.write_text(content)
    assert cli.main(["plot", str(log)]) == 1
    assert words in capsys.readouterr().err
    assert cli.main(["plot", str(tmp_path / "none.jsonl")]) == 1
    assert cli.main(["plot", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path):
    log = tmp_path / "logs" / "run.jsonl"
    (tmp_path / "logs").write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match="the run goes on, but is no longer logged") as caught:
        scheduler = run(log)
    assert len(caught) == 1
    assert scheduler.last_epoch == 40


def test_a_line_that_was_damaged_in_the_midst_is_refused(tmp_path):
    log = tmp_path / "run.jsonl"
    run(log)
    lines = log.read_text().splitlines()
    lines[3] = lines[3][:20]
    log.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="line 4 is none of a run's log"):
        read_run_log(log)
