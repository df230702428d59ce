"""The evaluation protocol: policies against what people tune, on tasks that neither trained nor selected them."""

from rlsched.experiments.evaluation.comparators import (
    Comparator,
    Controlled,
    Learned,
    default,
    fixed_curricula,
    policies,
    schedules,
)
from rlsched.experiments.evaluation.field import field_methods
from rlsched.experiments.evaluation.figures import Row
from rlsched.experiments.evaluation.job import MethodJob, Run
from rlsched.experiments.evaluation.libraries import library_methods
from rlsched.experiments.evaluation.methods import (
    BEST_CURRICULUM,
    BEST_DEFAULT,
    BEST_TUNED,
    Method,
    best_default,
)
from rlsched.experiments.evaluation.protocol import Evaluation, digest
from rlsched.experiments.evaluation.results import Results, check_free
from rlsched.experiments.evaluation.suites import SUITES, Suite, make_suite

__all__ = [
    "BEST_CURRICULUM",
    "BEST_DEFAULT",
    "BEST_TUNED",
    "SUITES",
    "Comparator",
    "Controlled",
    "Evaluation",
    "Learned",
    "Method",
    "MethodJob",
    "Results",
    "Row",
    "Run",
    "Suite",
    "best_default",
    "check_free",
    "default",
    "digest",
    "field_methods",
    "fixed_curricula",
    "library_methods",
    "make_suite",
    "policies",
    "schedules",
]
