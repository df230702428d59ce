"""rlsched: learned learning-rate and curriculum schedules.

Names are imported when they are first used, so that `import rlsched` needs neither torch nor safetensors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlsched.buckets import Buckets
    from rlsched.contract import Controller, Decision, RunSpec, Window
    from rlsched.controllers import (
        REX,
        WSD,
        Constant,
        Cosine,
        FixedCurriculum,
        Guard,
        Linear,
        PolicyController,
        Warmup,
    )
    from rlsched.difficulty import (
        forgetting_scores,
        linear_probe_scores,
        loss_variance_scores,
        reference_loss_scores,
    )
    from rlsched.difficulty.reference import loss_history
    from rlsched.events import Event
    from rlsched.online import OnlineBuckets
    from rlsched.policy import Policy, PolicyFormatError
    from rlsched.sampler import CurriculumSampler
    from rlsched.scheduler import RLScheduler

__version__ = "0.1.0"

_HOME = {
    "REX": "rlsched.controllers",
    "WSD": "rlsched.controllers",
    "FixedCurriculum": "rlsched.controllers",
    "Buckets": "rlsched.buckets",
    "Constant": "rlsched.controllers",
    "Controller": "rlsched.contract",
    "Cosine": "rlsched.controllers",
    "CurriculumSampler": "rlsched.sampler",
    "Decision": "rlsched.contract",
    "Event": "rlsched.events",
    "Guard": "rlsched.controllers",
    "Linear": "rlsched.controllers",
    "OnlineBuckets": "rlsched.online",
    "Policy": "rlsched.policy",
    "PolicyController": "rlsched.controllers",
    "PolicyFormatError": "rlsched.policy",
    "RLScheduler": "rlsched.scheduler",
    "RunSpec": "rlsched.contract",
    "Warmup": "rlsched.controllers",
    "Window": "rlsched.contract",
    "forgetting_scores": "rlsched.difficulty",
    "linear_probe_scores": "rlsched.difficulty",
    "loss_history": "rlsched.difficulty.reference",
    "loss_variance_scores": "rlsched.difficulty",
    "reference_loss_scores": "rlsched.difficulty",
}
_NEEDS_TORCH = {"rlsched.difficulty.reference", "rlsched.sampler", "rlsched.scheduler"}

__all__ = [
    "REX",
    "WSD",
    "Buckets",
    "Constant",
    "Controller",
    "Cosine",
    "CurriculumSampler",
    "Decision",
    "Event",
    "FixedCurriculum",
    "Guard",
    "Linear",
    "OnlineBuckets",
    "Policy",
    "PolicyController",
    "PolicyFormatError",
    "RLScheduler",
    "RunSpec",
    "Warmup",
    "Window",
    "__version__",
    "forgetting_scores",
    "linear_probe_scores",
    "loss_history",
    "loss_variance_scores",
    "reference_loss_scores",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rlsched' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if _HOME[name] in _NEEDS_TORCH and error.name == "torch":
            raise ModuleNotFoundError(
                f"rlsched.{name} needs PyTorch: pip install 'rlsched[torch]'", name="torch"
            ) from error
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
