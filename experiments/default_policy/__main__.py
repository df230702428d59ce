"""Train the shipped policy again: `python -m rlsched.experiments.default_policy --out DIR --workers 2`."""

from __future__ import annotations

import dataclasses
import sys
from importlib import resources
from pathlib import Path

import tyro

from rlsched._check import ArgumentError
from rlsched.agents.presets import DEFAULT
from rlsched.experiments.backend import choose_backend
from rlsched.experiments.config_file import read_config
from rlsched.experiments.evaluation import digest
from rlsched.experiments.train import train_with_bar
from rlsched.policy import Policy, PolicyFormatError

CONFIG = Path(__file__).with_name("config.toml")
SETTLING = 0.05
"""Of a run: `ActionSpec.settling`, which the trained policy is given afterwards, see docs/findings.md."""
SHIPPED = Path(str(resources.files("rlsched"))) / "policies" / "default.safetensors"


def main(out: Path, workers: int = 0, resume: bool = False, install: bool = False) -> int:
    """Train the policy by config.toml, let it settle, and say whether it is the one that comes with rlsched.

    Args:
        out: folder of the run.
        workers: processes that train tasks, by Ray; the policy is the same with any number.
        resume: go on from the last checkpoint.
        install: let it be the policy that comes with rlsched.
    """
    config = read_config(CONFIG, DEFAULT)
    trained = train_with_bar(config, out, backend=choose_backend(workers, None), resume=resume)
    policy = settling(trained)
    path = policy.save(out / "settling.safetensors")
    same = digest(policy) == _shipped()
    print(f"{path} {'is' if same else 'is not'} the policy in {SHIPPED}, bit for bit.")
    if install and not same:
        print(f"Written to {policy.save(SHIPPED)}.")
    return 0 if same or install else 1


def settling(policy: Policy) -> Policy:
    """`policy`, whose runs settle over the first `SETTLING` of their steps."""
    action = dataclasses.replace(policy.metadata.action, settling=SETTLING)
    return Policy(policy.tensors, dataclasses.replace(policy.metadata, action=action))


def _shipped() -> str:
    """The digest of the policy that comes with rlsched; empty if there is none that this version can read."""
    try:
        return digest(Policy.load(SHIPPED))
    except (FileNotFoundError, PolicyFormatError):
        return ""


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, prog="python -m rlsched.experiments.default_policy"))
    except (OSError, ArgumentError) as error:
        sys.exit(f"default_policy: {error}")
