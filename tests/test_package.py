"""The package from outside: imports, names, the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import rlsched
from rlsched.experiments.cli import COMMANDS
from rlsched.experiments.cli import main as cli
from rlsched.policy import PolicyMetadata
from tests.policies import random_policy

HEAVY = {"stable_baselines3", "gymnasium", "ray", "sklearn", "matplotlib", "torch", "tyro", "scipy", "pandas"}


def python(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_after(code: str, cwd: Path) -> set[str]:
    listed = python(f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))", cwd)
    return {name.split(".")[0] for name in json.loads(listed.splitlines()[-1])}


def test_import_is_light(tmp_path):
    assert not HEAVY & modules_after("import rlsched", tmp_path)


def test_a_policy_needs_neither_torch_nor_the_training_stack(tmp_path):
    path = random_policy(0).save(tmp_path / "policy.safetensors")
    code = f"import rlsched; rlsched.PolicyController(rlsched.Policy.load({str(path)!r}))"
    assert not HEAVY & modules_after(code, tmp_path)


def test_the_scheduler_needs_torch_alone(tmp_path):
    # torch itself imports others where they are installed.
    torchs = modules_after("import torch.utils.data, torch.optim", tmp_path)
    extra = modules_after("from rlsched import RLScheduler, CurriculumSampler", tmp_path) - torchs
    assert not HEAVY & extra


def test_no_generic_name_becomes_importable(tmp_path):
    code = (
        "import importlib.util as u, rlsched.envs, rlsched.agents, rlsched.experiments\n"
        "assert not any(u.find_spec(name) for name in ('envs', 'agents', 'experiments'))"
    )
    python(code, tmp_path)


def test_every_public_name_exists_and_others_do_not():
    for name in rlsched.__all__:
        assert getattr(rlsched, name) is not None
    assert set(rlsched.__all__) <= set(dir(rlsched))
    with pytest.raises(AttributeError, match="module 'rlsched' has no attribute 'Scheduler'"):
        _ = rlsched.Scheduler


def test_without_torch_the_error_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import rlsched\n"
        "try:\n    rlsched.RLScheduler\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    assert "pip install 'rlsched[torch]'" in python(code, tmp_path)


def test_without_scipy_a_law_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['scipy'] = sys.modules['scipy.optimize'] = None\n"
        "from rlsched.laws import ConvexDrift\n"
        "try:\n    ConvexDrift(1.0, 1.0, 1.0).rates([0.0, 0.1, 0.2])\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    assert "pip install 'rlsched[laws]'" in python(code, tmp_path)


def test_the_command_line_helps(capsys):
    assert cli(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert cli([]) == 2
    assert cli(["trian"]) == 2
    assert "no command 'trian'" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as done:
        cli([command, "--help"])
    assert done.value.code == 0
    assert f"usage: rlsched {command}" in capsys.readouterr().out


def test_inspect_shows_what_is_in_the_file(tmp_path, capsys):
    path = random_policy(0).save(tmp_path / "policy.safetensors")
    assert cli(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    size = f"{path.stat().st_size} bytes"
    for words in ("random weights, for tests", "Apache-2.0", "max_move", "loss_vs_first", "parameters", size):
        assert words in shown
    assert cli(["inspect", str(tmp_path)]) == 0
    assert capsys.readouterr().out == shown, "a folder is the file in it"


def test_inspect_shows_brackets_as_they_are(tmp_path, capsys):
    policy = random_policy(0)
    noted = rlsched.Policy(policy.tensors, PolicyMetadata(training={"what": "see [/notes]", "[b]": 1}))
    assert cli(["inspect", str(noted.save(tmp_path / "policy[1].safetensors"))]) == 0
    shown = capsys.readouterr().out
    assert "see [/notes]" in shown
    assert "[b]" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "nowhere.safetensors"], "no policy file at nowhere.safetensors"),
        (["inspect", __file__], "is no valid safetensors file"),
        (["train", "--out", "x", "--iterations", "-1"], "iterations must be an integer >= 0, got -1"),
        (["train", "--out", "nowhere", "--resume"], "holds no checkpoint to resume from"),
        (["demo", "--seeds", "2"], "seeds must be an integer >= 5, got 2"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_status(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = cli(arguments)
    except SystemExit as done:  # the parser's own exit
        status = int(str(done.code))
    assert status in (1, 2)
    out, err = capsys.readouterr()
    assert words in " ".join((out + err).split())
    assert "Traceback" not in out + err
