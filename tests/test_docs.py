"""What the documents say works: their Python runs, their commands exist and are run."""

import importlib.util
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from rlsched import Linear, RLScheduler
from rlsched.experiments.cli import main as cli
from tests.loops import start
from tests.policies import random_policy

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
# A short training stands in for the documents' long ones.
QUICK = shlex.split(
    "--iterations 1 --minibatch 50 --warm-start.groups 1 --warm-start.group-tasks 2 --warm-start.rounds 1 "
    "--warm-start.copies 1 --warm-start.no-buckets --rollouts.units 1 --rollouts.slots 2 --rollouts.repeats 1 "
    "--evaluation.groups 1 --evaluation.group-tasks 1 --no-pictures"
)

FEW = ["--groups", "1", "--group-tasks", "1"]
SHORTER = {
    "train": QUICK,
    "refine": shlex.split("--rounds 1 --groups 1 --group-tasks 3 --points 1 --epochs 1 --evaluated 1"),
    "score": ["--groups", "2", "--group-tasks", "1"],
    "harm": ["--count", "2"],
    "evaluate": shlex.split(
        "--suite quick --groups 1 --reports 1 --no-curricula --no-other-libraries --workers 0"
    ),
    "importance": ["--groups", "1", "--tasks.family", "quick"],
    "compare": ["--task", "quick", "--seeds", "1"],
    "ablate": ["--config", "tiny.toml", "--seeds", "1", "--variants", "no PPO", *FEW],
}
"""Flags that make a command of the documents one of seconds."""
TINY = """
warm_start = {groups = 1, group_tasks = 2, rounds = 1, copies = 1}
rollouts = {units = 1, slots = 2, repeats = 1}
ppo = {iterations = 1, minibatch = 50}
evaluation = {groups = 1, group_tasks = 1}
"""


def blocks(language: str) -> list[str]:
    return [
        code
        for document in DOCUMENTS
        for code in re.findall(rf"```{language}\n(.*?)```", document.read_text(), flags=re.DOTALL)
    ]


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_policy(0).save(tmp_path / "runs" / "demo" / "policy.safetensors")
    (tmp_path / "tiny.toml").write_text(TINY)
    # The run that the documents draw.
    _, optimizer = start()
    scheduler = RLScheduler(optimizer, 20, controller=Linear(), log_to="runs/mine.jsonl")
    for _ in range(20):
        optimizer.step()
        scheduler.step(1.0)
    for code in blocks("python"):
        # Code that the reader is told to put into a file.
        named = re.match(r"# (\w+\.py)\n", code)
        if named:
            (tmp_path / named[1]).write_text(code)
    return tmp_path


def test_the_python_in_the_documents_runs(folder, capsys):
    code = "\n".join(blocks("python"))
    assert "RLScheduler(" in code
    assert "CurriculumSampler(" in code
    exec(compile(code, "documents", "exec"), {})


def test_the_rlsched_commands_in_the_documents_run(folder, capsys, monkeypatch, ray_cluster):
    monkeypatch.syspath_prepend(str(folder))
    run = 0
    for words in commands():
        if words[:2] == ["rlsched", "bench"]:
            continue  # minutes; CI runs it
        if words[0] == "rlsched":
            # Later flags win: the documents' own settings are parsed, then shortened.
            short = [*words, *SHORTER.get(words[1], [])]
            if "--methods" in words:
                short += ["--methods", "greedy"]  # one for all of them, which take minutes
            if "--workers" in words:
                # Each takes seconds to start; refinement by Ray has a test of its own.
                short += ["--workers", "0" if words[1] == "refine" else "1"]
            if words[1] == "train" and {"--tasks.family", "--tasks.function"} & set(words):
                short += ["--iterations", "0"]  # their runs are long; PPO is tried on the short ones
            # In this process, which has imported everything and has a Ray.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert cli(short[1:]) == 0, f"{words}: {capsys.readouterr().err}"
        elif words[0] == "tensorboard":
            command = [sys.executable, "-m", "tensorboard.main", *words[1:], "--inspect"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{words}: {done.stderr}"
        else:
            continue
        run += 1
    assert run >= 4


def test_the_other_commands_are_those_of_ci():
    makefile, ci = (ROOT / "Makefile").read_text(), (ROOT / ".ci" / "run").read_text()
    for words in commands():
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE), words
            assert f"make {words[1]}" in ci, words
        elif words[:2] == ["pip", "install"]:
            extras = re.findall(r"\[(.*?)\]", words[2])[0].split(",")
            project = (ROOT / "pyproject.toml").read_text()
            assert all(re.search(rf"^{extra} = ", project, flags=re.MULTILINE) for extra in extras)
        elif words[:2] == ["python", "-m"]:
            # Trainings of hours; tests/test_default_policy.py calls what they call.
            assert importlib.util.find_spec(words[2]), words
        else:
            assert words[0] in {"rlsched", "tensorboard"}, words
            assert words[:2] != ["rlsched", "bench"] or "/rlsched bench" in makefile


def test_links_between_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_no_placeholder_is_left():
    for document in [*DOCUMENTS, ROOT / "CHANGELOG.md"]:
        assert not re.findall(r"\b[A-Z]+_TABLE\b|\bTODO\b|\bTBD\b|\bXXX\b", document.read_text()), document.name
