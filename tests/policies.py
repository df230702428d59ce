"""Policies for tests: real networks with random weights."""

import numpy as np

from rlsched import Policy
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES, bounds
from rlsched.policy import PolicyMetadata
from rlsched.policy.network import tensor_shapes


def random_policy(seed: int, *, gain: float = 1.0, trunk: int = 16, bucket: int = 8) -> Policy:
    """A policy whose actions vary with what it sees; with gain 0 it always takes the zero action."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(trunk, bucket).items():
        scale = 1.0 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1
        if name.startswith(("lr_head", "bucket_head.1")):
            scale *= gain
        tensors[name] = (scale * rng.standard_normal(shape)).astype(np.float32)
    low, high = bounds(1)
    runs = len(RUN_FEATURES)
    for part, rows, size in (
        ("run", slice(0, runs), runs),
        ("bucket", slice(runs, None), len(BUCKET_FEATURES)),
    ):
        tensors[f"normalizer.{part}_low"], tensors[f"normalizer.{part}_high"] = low[rows], high[rows]
        tensors[f"normalizer.{part}_mean"] = np.zeros(size, np.float32)
        tensors[f"normalizer.{part}_std"] = np.ones(size, np.float32)
    return Policy(tensors, PolicyMetadata(training={"what": "random weights, for tests"}))
