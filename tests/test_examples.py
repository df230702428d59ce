"""Every example is a script that runs as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.policies import random_policy

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


CASES = [*((path, True) for path in EXAMPLES), (EXAMPLES[0], False)]


@pytest.mark.parametrize(("example", "named"), CASES, ids=lambda value: getattr(value, "stem", str(value)))
def test_an_example_runs(tmp_path, example, named):
    policy = random_policy(1).save(tmp_path / "policy.safetensors")
    arguments = [str(policy)] if named else []
    done = subprocess.run(
        [sys.executable, str(example), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "learning rates" in done.stdout
    assert "UserWarning: the optimizer made" not in done.stderr
