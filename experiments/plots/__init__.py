"""Pictures."""

from rlsched.experiments.plots.behaviour import plot_behaviour
from rlsched.experiments.plots.demo import plot_demo
from rlsched.experiments.plots.learning_curve import plot_learning_curve
from rlsched.experiments.plots.run import plot_run

__all__ = ["plot_behaviour", "plot_demo", "plot_learning_curve", "plot_run"]
