"""Evaluation on tasks that nobody trained on, beside what people do without a policy."""

from rlsched.agents.evaluation.baselines import Baselines, BaselineUnit
from rlsched.agents.evaluation.comparison import Comparison, Difference
from rlsched.agents.evaluation.kinds import FLAWLESS, FLAWS, Which, kinds
from rlsched.agents.evaluation.outcome import (
    EvaluationUnit,
    Outcome,
    Trajectory,
    evaluation_seeds,
    join_outcomes,
)

__all__ = [
    "FLAWLESS",
    "FLAWS",
    "BaselineUnit",
    "Baselines",
    "Comparison",
    "Difference",
    "EvaluationUnit",
    "Outcome",
    "Trajectory",
    "Which",
    "evaluation_seeds",
    "join_outcomes",
    "kinds",
]
