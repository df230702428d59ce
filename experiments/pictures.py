"""What a training shows of itself when it is done."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from rlsched.agents import TrainConfig
from rlsched.envs.tasks import TaskFamily
from rlsched.experiments.behaviour import observe
from rlsched.experiments.learning_curve import read_learning_curve
from rlsched.policy import Policy


def draw_pictures(policy: Policy, config: TrainConfig, tasks: TaskFamily, out: Path) -> list[Path]:
    """Pictures of how the training in `out` went and of what its `policy` does; none without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        print("No pictures: pip install 'rlsched[plots]'.", file=sys.stderr)
        return []
    from rlsched.experiments.plots import plot_behaviour, plot_learning_curve

    print("Drawing pictures: the policy is run on fixed tasks of every kind ...", flush=True)
    curve = read_learning_curve(out / "tensorboard", config)
    return [
        plot_learning_curve(curve, out / "learning_curve.png"),
        plot_behaviour(observe(policy, config, tasks), out / "behaviour.png"),
    ]
