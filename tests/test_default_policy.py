"""The policy that comes with rlsched, and what is said of it."""

import dataclasses
import json

import numpy as np
import torch

from rlsched import Linear, Policy, RLScheduler
from rlsched.agents import PPOSettings, RolloutPlan
from rlsched.agents.presets import DEFAULT
from rlsched.experiments.config_file import read_config
from rlsched.experiments.default_policy import __main__ as regenerate
from rlsched.experiments.default_policy.evidence import DOCUMENTS, JSON, ROOT, entries, filled
from rlsched.experiments.evaluation import Results, Row, digest
from tests.trainings import SMALL


def run(**options):
    """Learning rates of a short run."""
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = RLScheduler(optimizer, 60, **options)
    x, y = torch.randn(64, 8), torch.randint(3, (64,))
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    return scheduler.history()["lr"]


def test_it_is_used_where_none_is_named():
    np.testing.assert_array_equal(run(), run(policy=Policy.default()))
    assert (run() != run(controller=Linear())).any()


def test_it_was_trained_by_the_settings_in_the_repository():
    said = dict(Policy.default().metadata.training)
    settings = read_config(regenerate.CONFIG, DEFAULT)
    stored = json.loads(json.dumps(dataclasses.asdict(settings)))
    for name in said.keys() & stored.keys():
        mine, theirs = ({"": each} if not isinstance(each, dict) else each for each in (said[name], stored[name]))
        assert mine == {key: theirs[key] for key in mine}, name
    assert {"tasks", "warm_start", "ppo"} <= said.keys() & stored.keys()


def test_what_documents_say_of_it_is_what_was_measured():
    found = json.loads(JSON.read_text())
    assert set(found["standard"]["made_with"]["policies"].values()) == {digest(Policy.default())}
    for name, length in DOCUMENTS.items():
        text = (ROOT / name).read_text()
        assert "<!-- evidence " in text
        assert filled(text, found, length) == text, (
            f"python -m rlsched.experiments.default_policy.evidence rewrites {name}"
        )


def test_tables_are_filled_between_their_marks():
    found = json.loads(JSON.read_text())
    text = "before\n<!-- evidence standard -->\nold\n<!-- end -->\nafter\n"
    once = filled(text, found, "short")
    assert once.startswith("before\n<!-- evidence standard -->\n| method")
    assert once.endswith("<!-- end -->\nafter\n")
    assert "old" not in once
    assert filled(once, found, "short") == once


def test_all_methods_of_the_field_are_kept_beside_the_suite():
    row = Row.of(json.loads(JSON.read_text())["standard"]["rows"][0])
    rows = [
        dataclasses.replace(row, kind=kind, tasks=tasks)
        for kind in ("policy", "field")
        for tasks in ("all", "digits")
    ]
    results = Results("standard", {"git": "new"}, [], {}, rows, [])
    found = entries(results)
    kept = {name: [(each["kind"], each["tasks"]) for each in entry["rows"]] for name, entry in found.items()}
    assert kept["standard"] == [("policy", "all"), ("policy", "digits")]
    assert kept["field"] == [*kept["standard"], ("field", "all")]
    assert set(entries(dataclasses.replace(results, rows=rows[:2]))) == {"standard"}


def test_a_training_says_whether_it_gave_the_shipped_policy(tmp_path, monkeypatch, capsys):
    shipped = tmp_path / "default.safetensors"
    Policy.default().save(shipped)
    monkeypatch.setattr(regenerate, "SHIPPED", shipped)
    rollouts = RolloutPlan(units=1, slots=2, repeats=1)
    brief = dataclasses.replace(SMALL, rollouts=rollouts, ppo=PPOSettings(iterations=1, minibatch=50))
    monkeypatch.setattr(regenerate, "read_config", lambda *_: brief)
    assert regenerate.main(tmp_path / "run") == 1
    assert "is not the policy in" in capsys.readouterr().out
    assert digest(Policy.load(shipped)) == digest(Policy.default())
    assert regenerate.main(tmp_path / "run", resume=True, install=True) == 0
    trained, ours = Policy.load(tmp_path / "run" / "policy.safetensors"), Policy.load(shipped)
    assert trained.metadata.action.settling == 0.0
    assert ours.metadata == regenerate.settling(trained).metadata
    assert digest(ours) == digest(regenerate.settling(trained))
    assert ours.metadata.action.settling == Policy.default().metadata.action.settling == regenerate.SETTLING
    assert regenerate.main(tmp_path / "run", resume=True) == 0
    assert "is the policy in" in capsys.readouterr().out
