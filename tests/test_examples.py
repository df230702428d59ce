"""Every example is a script that runs as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.policies import random_policy

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(tmp_path, example):
    policy = random_policy(1).save(tmp_path / "policy.safetensors")
    done = subprocess.run(
        [sys.executable, str(example), str(policy)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "learning rates" in done.stdout
    assert "UserWarning: the optimizer made" not in done.stderr
