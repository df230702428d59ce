"""`rlsched train`: where settings come from, what is refused, what is shown and what is left behind."""

import dataclasses
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch

from rlsched._check import ArgumentError
from rlsched.agents import Progress, TaskSettings, TrainConfig
from rlsched.agents.presets import DEFAULT, LR_ONLY, PRESETS, QUICK
from rlsched.agents.rollouts.errors import WorkerError
from rlsched.agents.training import train
from rlsched.envs.tasks import Digits, Mixture
from rlsched.experiments import behaviour
from rlsched.experiments import train as train_module
from rlsched.experiments.bar import TrainingBar, scores
from rlsched.experiments.base_config import base_config
from rlsched.experiments.cli import main as cli
from rlsched.experiments.config_file import read_config
from rlsched.experiments.learning_curve import read_scalars
from rlsched.experiments.task_family import task_family

ROOT = Path(__file__).parents[1]
DOC = (ROOT / "docs" / "training.md").read_text()
METRICS = (ROOT / "docs" / "metrics.md").read_text()
# The smallest training that goes through all stages.
TINY = """
[tasks]
family = "quick"
[warm_start]
groups = 1
group_tasks = 2
rounds = 2
copies = 1
epochs = 1
[rollouts]
units = 1
slots = 2
repeats = 1
[ppo]
iterations = 2
minibatch = 50
[evaluation]
every = 1
groups = 1
group_tasks = 2
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def run(*arguments: object) -> int:
    try:
        return cli(["train", *map(str, arguments)])
    except SystemExit as done:  # the parser's own exit
        return int(str(done.code))


@pytest.fixture
def started(monkeypatch):
    """What the command would train, without training it."""
    calls: list[tuple[TrainConfig, dict]] = []

    def record(config, out, **options):
        calls.append((config, options))

    monkeypatch.setattr(train_module, "train_with_bar", record)
    return calls


@pytest.fixture(scope="module", autouse=True)
def few_tasks_for_pictures():
    """Pictures show what a policy does on 128 tasks, which takes longer than the trainings here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "GROUPS", 2)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny training with all that it leaves behind."""
    folder = tmp_path_factory.mktemp("train")
    out = folder / "run"
    assert run("--out", out, "--config", written(folder / "tiny.toml", TINY), "--seed", "7") == 0
    return out


class TestSettings:
    @pytest.mark.parametrize("name", PRESETS)
    def test_a_preset_is_the_base(self, name, started):
        assert run("--out", "x", "--preset", name, "--no-pictures") == 0
        assert started[0][0] == PRESETS[name]

    def test_the_presets_are_what_they_are_called(self):
        assert QUICK.tasks.family == "quick"
        assert DEFAULT.tasks.family == "short"
        assert not LR_ONLY.tasks.curriculum
        assert not LR_ONLY.warm_start.buckets
        assert base_config([]) == DEFAULT

    def test_the_file_changes_the_preset_and_flags_change_both(self, tmp_path, started):
        file = written(
            tmp_path / "my.toml", "seed = 3\n[ppo]\niterations = 7\nepochs = 2\n[rollouts]\nslots = 16\n"
        )
        arguments = ("--preset", "quick", "--config", file, "--iterations", "9", "--rollouts.units", "5")
        assert run("--out", tmp_path, *arguments, "--tasks.no-curriculum", "--no-pictures") == 0
        config = started[0][0]
        assert (config.seed, config.ppo.epochs, config.rollouts.slots) == (3, 2, 16)
        assert (config.ppo.iterations, config.rollouts.units, config.tasks.curriculum) == (9, 5, False)
        assert config.tasks.family == "quick"
        assert config.evaluation == QUICK.evaluation

    def test_flags_may_be_written_with_an_equals_sign(self, tmp_path, started):
        file = written(tmp_path / "my.toml", "seed = 3")
        assert run("--out=x", "--preset=quick", f"--config={file}", "--no-pictures") == 0
        assert started[0][0] == dataclasses.replace(QUICK, seed=3)

    def test_a_flag_can_undo_what_a_preset_turned_off(self, started):
        arguments = ("--tasks.curriculum", "--warm-start.buckets", "--no-pictures")
        assert run("--out", "x", "--preset", "lr-only", *arguments) == 0
        assert started[0][0] == DEFAULT

    @pytest.mark.parametrize("suffix", ["toml", "json"])
    def test_both_formats_say_the_same(self, suffix, tmp_path):
        text = {"toml": "[ppo]\nlearning_rate = 1\n", "json": '{"ppo": {"learning_rate": 1}}'}[suffix]
        found = read_config(written(tmp_path / f"my.{suffix}", text), QUICK)
        assert found.ppo == dataclasses.replace(QUICK.ppo, learning_rate=1.0)
        assert type(found.ppo.learning_rate) is float

    def test_every_setting_has_a_flag_and_every_part_a_parameter(self, capsys):
        assert run("--help") == 0
        shown = capsys.readouterr().out.replace("_", "-")
        for place in _settings(TrainConfig):
            flag = place.replace("_", "-").removeprefix("ppo.")
            assert f"--{flag}" in shown, place

    def test_every_setting_is_documented(self):
        for kind in [
            TrainConfig,
            *(t for t in get_type_hints(TrainConfig).values() if dataclasses.is_dataclass(t)),
        ]:
            for field in dataclasses.fields(kind):
                assert re.search(rf"^\s+{field.name}: ", kind.__doc__ or "", re.MULTILINE), f"{kind}: {field.name}"


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("--preset quik", "preset must be one of default, lr-only, quick, got 'quik'"),
            ("--config nowhere.toml", "config must be a file, there is none at nowhere.toml"),
            ("--config nowhere.yaml", "config must be a file that ends in .toml or .json"),
            ("--workers -1", "workers must be an integer >= 0, got -1"),
            ("--ray-address auto", "workers must be at least 1 with a ray_address (auto), got 0"),
            ("--device tpu", "device must be one of cpu, cuda, got 'tpu'"),
            ("--tasks.family quik", "family must be one of autoencoder, broad,"),
            ("--tasks.function mytask", "name must be \"package.module:function\", got 'mytask'"),
            ("--iterations -1", "iterations must be an integer >= 0, got -1"),
            ("--iterations 0 --warm-start.groups 0", "nothing would be learned"),
            ("--iteration 3", "Perhaps you meant: --iterations INT"),
            ("--rollouts.slots 3 --rollouts.repeats 2", "slots must be a multiple of repeats (2), got 3"),
            ("--rollouts.decisions 10 --minibatch 320 --tasks.family quick", "raise --rollouts.decisions"),
        ],
    )
    def test_a_flag(self, arguments, words, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert run("--out", "run", *arguments.split()) in (1, 2)
        _says(capsys, words)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[ppo]\niteration = 3", "there is no setting ppo.iteration. Did you mean ppo.iterations?"),
            ("iterations = 3", "there is no setting iterations. Did you mean ppo.iterations?"),
            ("[warmstart]\ngroups = 3", "there is no setting warmstart. Did you mean warm_start?"),
            (
                "[evaluation]\nminibatch = 3",
                "evaluation.minibatch. Did you mean warm_start.minibatch or ppo.minibatch?",
            ),
            ("[evaluation]\nxyzzy = 3", "evaluation may have every, groups, group_tasks."),
            ("[ppo]\niterations = '3'", "ppo.iterations must be an integer, got '3' (str)"),
            ("[ppo]\niterations = true", "ppo.iterations must be an integer, got True (bool)"),
            ("[ppo]\niterations = 3.0", "ppo.iterations must be an integer, got 3.0 (float)"),
            ("[ppo]\ndecay = 1", "ppo.decay must be true or false, got 1 (int)"),
            ("[ppo]\ngae_lambda = '1'", "ppo.gae_lambda must be a number, got '1' (str)"),
            ("[ppo]\ngae_lambda = 2", "ppo.gae_lambda must be a finite number in [0.0, 1.0], got 2.0"),
            ("[ppo]\ngae_lambda = nan", "ppo.gae_lambda must be a finite number"),
            ("[tasks]\nfamily = ['quick']", "tasks.family must be a string, got ['quick'] (list)"),
            ("ppo = 3", "ppo must be a table of settings, got 3"),
            ("seed = -1", "seed must be an integer in [0, 4294967295], got -1"),
            ("seed = ", "my.toml is no valid TOML: Invalid value (at "),
        ],
    )
    def test_a_file(self, text, words, capsys, tmp_path):
        file = written(tmp_path / "my.toml", text)
        assert run("--out", tmp_path / "run", "--config", file) == 1
        _says(capsys, words)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("content", "words"),
        [(b"{", "is no valid JSON: "), (b"[1]", "must hold an object"), (b"\xff", "is no valid JSON: ")],
    )
    def test_a_file_that_is_none(self, content, words, tmp_path):
        (tmp_path / "my.json").write_bytes(content)
        with pytest.raises(ArgumentError, match=re.escape(words)):
            read_config(tmp_path / "my.json", QUICK)

    def test_a_device_that_is_not_there(self, monkeypatch, capsys, tmp_path):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert run("--out", tmp_path, "--device", "cuda") == 1
        _says(capsys, "device must be cpu here, got 'cuda'")

    def test_workers_without_ray(self, monkeypatch, capsys, tmp_path):
        for name in [name for name in sys.modules if name.split(".")[0] == "ray" or ".rollouts.ray_" in name]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "ray", None)
        assert run("--out", tmp_path, "--workers", "2") == 1
        _says(capsys, "pip install 'rlsched[ray]'")

    def test_what_goes_wrong_in_workers_is_a_message(self, monkeypatch, capsys, tmp_path):
        def fail(config, out, **options):
            raise WorkerError("a job raised: your data are gone")

        monkeypatch.setattr(train_module, "train_with_bar", fail)
        assert run("--out", tmp_path, "--no-pictures") == 1
        _says(capsys, "rlsched train: a job raised: your data are gone --resume goes on from the last checkpoint")

    def test_other_errors_are_not_hidden(self, monkeypatch, tmp_path):
        def fail(config, out, **options):
            raise RuntimeError("a mistake of ours")

        monkeypatch.setattr(train_module, "train_with_bar", fail)
        with pytest.raises(RuntimeError, match="of ours"):
            run("--out", tmp_path, "--no-pictures")

    def test_interrupting_says_how_to_go_on(self, monkeypatch, capsys, tmp_path):
        def stop(config, out, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(train_module, "train_with_bar", stop)
        assert run("--out", tmp_path, "--no-pictures") == 130
        _says(capsys, "rlsched train: stopped. --resume goes on from the last checkpoint")

    def test_a_folder_in_use(self, trained, capsys):
        assert run("--out", trained) == 1
        _says(capsys, "holds a training run: pass --resume to continue it, or another --out")

    def test_a_folder_that_is_a_file(self, tmp_path, capsys):
        assert run("--out", written(tmp_path / "run", "")) == 1
        _says(capsys, "run")

    def test_resuming_nothing(self, tmp_path, capsys):
        assert run("--out", tmp_path / "run", "--resume") == 1
        _says(capsys, "holds no checkpoint to resume from")

    @pytest.mark.parametrize("arguments", ["--seed 8", "--preset quick", "--tasks.no-curriculum"])
    def test_resuming_with_other_settings(self, arguments, trained, capsys):
        assert run("--out", trained, "--resume", *arguments.split()) == 1
        _says(capsys, "holds a run with other settings of")


def test_resuming_a_run_of_another_version(tmp_path, capsys):
    written(tmp_path / "config.json", '{"ppo": {"forgotten": 1}}')
    assert run("--out", tmp_path, "--resume") == 1
    _says(capsys, "use that one, or start afresh in another folder")


def test_resuming_takes_the_settings_of_the_folder(trained, started):
    assert run("--out", trained, "--resume", "--no-pictures") == 0
    config, options = started[0]
    assert options["resume"]
    assert config == dataclasses.replace(read_config(trained.parent / "tiny.toml", DEFAULT), seed=7)


def test_resuming_a_finished_training_draws_its_pictures_again(trained):
    (trained / "behaviour.png").unlink()
    before = (trained / "policy.safetensors").read_bytes()
    assert run("--out", trained, "--resume") == 0
    assert (trained / "behaviour.png").exists()
    assert (trained / "policy.safetensors").read_bytes() == before


def test_the_stored_settings_are_a_config_file(trained, tmp_path):
    stored = read_config(trained / "config.json", TrainConfig())
    settings = json.loads((trained / "config.json").read_text())
    assert {"distribution", "made_with"} < settings.keys()
    assert dataclasses.asdict(stored) == {
        k: v for k, v in settings.items() if k not in ("distribution", "made_with")
    }


def test_what_a_training_leaves_behind(trained):
    documented = re.findall(r"^\| `([\w./]+)`", _section(DOC, "What lies in the folder"), flags=re.MULTILINE)
    found = {path.name + "/" * path.is_dir() for path in trained.iterdir()}
    assert set(documented) == found


def test_every_scalar_is_documented_and_every_documented_one_is_logged(trained):
    documented = re.findall(r"^\| `(\w+/\w+)`", METRICS, flags=re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert set(documented) == read_scalars(trained / "tensorboard").keys()


def test_workers_are_given_what_was_asked_for(monkeypatch, tmp_path):
    pytest.importorskip("ray")
    from rlsched.agents.rollouts import ray_backend

    asked: dict[str, object] = {}

    def backend(setting, workers, **options):
        asked.update(options, workers=workers, device=setting.device)
        raise WorkerError("enough")

    monkeypatch.setattr(ray_backend, "RayBackend", backend)
    arguments = ("--workers", 3, "--ray-address", "auto", "--device", "cuda", "--gpus-per-worker", 0.25)
    assert run("--out", tmp_path, "--preset", "quick", *arguments) == 1
    told = {"address": "auto", "num_gpus": 0.25, "deadline": 1800.0}
    assert asked == told | {"workers": 3, "device": "cuda"}


def test_a_task_of_ones_own(tmp_path, monkeypatch, capsys, started):
    code = "".join(
        re.findall(r"```python\n(# mytask.py\n.*?)```", (ROOT / "docs" / "tasks.md").read_text(), re.DOTALL)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mytask", raising=False)
    written(tmp_path / "mytask.py", code)
    assert (
        run("--out", "run", "--tasks.function", "mytask:diabetes", "--tasks.misjudged", "10", "--no-pictures") == 0
    )
    config, options = started[0]
    assert "side by side, stacked by torch.func" in capsys.readouterr().out
    assert config.tasks.function == "mytask:diabetes"
    assert "mytask:diabetes" in repr(options["tasks"])
    assert "misjudged=10.0" in repr(options["tasks"])


class TestDocument:
    def test_its_config_file_is_one_and_names_every_setting(self, tmp_path):
        text = re.findall(r"```toml\n(.*?)```", DOC, flags=re.DOTALL)[0]
        found = read_config(written(tmp_path / "my.toml", text), LR_ONLY)
        assert found == DEFAULT, "the file must hold the settings of the preset default"
        parsed = tomllib.loads(text)
        for place in _settings(TrainConfig):
            table, _, name = place.rpartition(".")
            assert name in (parsed[table] if table else parsed), place

    def test_its_table_of_presets_is_true(self):
        rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \| (.*?) \|$", _section(DOC, "Presets"), re.MULTILINE)
        shown = {}
        for place, *values in rows:
            for name, value in zip(PRESETS, values, strict=True):
                shown[name, place] = value
        for name, config in PRESETS.items():
            for place in _settings(TrainConfig):
                value, first = _get(config, place), _get(QUICK, place)
                if (name, place) in shown:
                    assert shown[name, place] == (json.dumps(value) if not isinstance(value, str) else value), (
                        place
                    )
                else:
                    assert value == first, f"{place} differs between presets and is not in the table"


class TestBar:
    def test_it_follows_the_stages(self, capsys):
        with TrainingBar() as bar:
            for stage, done, total in (("baselines", 0, 2), ("baselines", 2, 2), ("learning", 1, 4)):
                bar(Progress(stage, done, total, score=-1.314, best=-1.35, default=-0.99, tuned=-1.13))
                assert (bar._bar.n, bar._bar.total, bar._bar.desc) == (done, total, stage)
                assert bar._bar.initial == 0
        last = capsys.readouterr().err.split("\r")[-1]
        assert "learning 1/4" in last
        assert "score -1.31 (best -1.35 default -0.99 tuned -1.13)" in last

    def test_steps_done_before_a_stop_took_no_time(self):
        with TrainingBar() as bar:
            bar(Progress("learning", 3, 4))
            assert (bar._bar.n, bar._bar.initial) == (3, 3)

    def test_only_what_is_known_is_shown(self):
        assert scores(Progress("baselines", 0, 1)) == ""
        assert scores(Progress("tuning", 0, 1, default=-1.0, tuned=-1.2)) == "default -1.00 tuned -1.20"
        assert scores(Progress("learning", 0, 1, score=-1.0)) == "score -1.00"


def test_a_resumed_training_logs_each_step_once(tmp_path):
    class Stop(Exception):
        pass

    def stop(progress):
        if (progress.stage, progress.done) == ("learning", 1):
            raise Stop

    config = read_config(written(tmp_path / "tiny.toml", TINY), DEFAULT)
    tasks = task_family(config.tasks)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", tasks=tasks, report=stop)
    train(config, tmp_path / "run", tasks=tasks, resume=True)
    steps = np.array(list(read_scalars(tmp_path / "run" / "tensorboard")["evaluation/score"]))
    assert steps.tolist() == [1, 200, 400]


def _says(capsys, words: str) -> None:
    out, err = capsys.readouterr()
    assert words in " ".join(re.sub("[│╭╮╰╯─]", " ", out + err).split())
    assert "Traceback" not in out + err


def _settings(kind: type, table: str = "") -> list[str]:
    types, found = get_type_hints(kind), []
    for field in dataclasses.fields(kind):
        place = f"{table}{field.name}"
        found += (
            _settings(types[field.name], f"{place}.") if dataclasses.is_dataclass(types[field.name]) else [place]
        )
    return found


def _get(config, place: str):
    for name in place.split("."):
        config = getattr(config, name)
    return config


def _section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_a_family_can_be_left_out_of_a_mixture():
    whole = task_family(TaskSettings(family="short"))
    less = task_family(TaskSettings(family="short", without="digits"))
    assert isinstance(whole, Mixture)
    assert isinstance(less, Mixture)
    assert [type(each) for each in less.families] == [
        type(each) for each in whole.families if type(each) is not Digits
    ]
    kept = [weight for each, weight in zip(whole.families, whole.weights, strict=True) if type(each) is not Digits]
    np.testing.assert_allclose(less.weights, np.array(kept) / sum(kept))
    for family, without in (("short", "quick"), ("digits", "digits")):
        with pytest.raises(ArgumentError, match=f"without must be among the families of {family}"):
            task_family(TaskSettings(family=family, without=without))
