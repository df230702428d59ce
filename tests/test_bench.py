"""`rlsched bench` and `rlsched tasks`. The benchmarks themselves are run by CI: timings are never asserted."""

import json

from rlsched.benchmarks import eager, environment, memory, overhead, population
from rlsched.benchmarks.rows import Row, in_turns
from rlsched.envs.tasks import FAMILIES, Characters
from rlsched.experiments.cli import main as cli


def test_rows_are_shown_and_written(tmp_path, monkeypatch, capsys):
    row = Row("peak memory", 1200.0, "MB", 2000.0, 0.6)
    asked: list[int | None] = []

    def rows(rounds=None):
        asked.append(rounds)
        return [row, row]

    monkeypatch.setattr(memory, "rows", rows)
    path = tmp_path / "bench" / "rows.json"
    assert cli(["bench", "--only", "memory", "--json", str(path)]) == 0
    assert "peak memory" in capsys.readouterr().out
    expected = {"name": "peak memory", "value": 1200.0, "unit": "MB", "baseline": 2000.0, "ratio": 0.6}
    assert json.loads(path.read_text()) == [expected, expected]
    assert cli(["bench", "--only", "memory", "--rounds", "3"]) == 0
    assert asked == [None, 3]
    assert cli(["bench", "--rounds", "0"]) == 1
    assert "rounds must be an integer >= 1, got 0" in capsys.readouterr().err


def test_an_unknown_table_is_refused(capsys):
    assert cli(["bench", "--only", "speed"]) == 1
    assert (
        "only must be one of controllers, environment, memory, overhead, population, rollouts, got 'speed'"
        in capsys.readouterr().err
    )


def test_a_comparison_times_both_sides_equally_often():
    calls: list[str] = []
    before, after = in_turns(lambda: calls.append("a"), lambda: calls.append("b"), rounds=3)
    assert calls == ["a", "b"] * 4
    assert before >= 0
    assert after >= 0


def test_the_parts_of_every_benchmark_run():
    """One round of each kind of work that is timed."""
    tasks = [population.perceptron((6, 4, 3), 4, "sgd", row) for row in range(2)]
    population.stacked(tasks)()
    eager.loop(tasks[0], "adam", 2)()
    model = eager.PlainGRU(96, 4)
    gru = population.of_family(Characters(), {"model": "gru", "width": 16, "layers": 1, "batch_size": 2}, 0)
    eager.loop(gru, "sgd", 1, model)()
    work = environment.Fixed(steps=60, decisions=10)
    environment.episode(work)
    env = environment.PopulationVecEnv(work, environment.PolicyInterface(), 2, 2)
    assert 0 < environment.own_share(env) < 1
    overhead.loop(8, None)()


def test_families_are_listed_and_described(capsys):
    assert cli(["tasks"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in FAMILIES)
    assert cli(["tasks", "signals", "--samples", "50"]) == 0
    described = capsys.readouterr().out
    assert "SignalsConfig, 100% of 50 tasks" in described
    assert "cnn" in described
    assert cli(["tasks", "mnist"]) == 1
    assert "family must be one of autoencoder, broad" in capsys.readouterr().err


def test_training_on_what_is_not_there_is_refused(tmp_path, capsys):
    assert cli(["train", "--out", str(tmp_path), "--tasks.function", "nowhere:function"]) == 1
    assert "there is no module 'nowhere'" in capsys.readouterr().err
