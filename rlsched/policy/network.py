"""The policy network's forward pass in NumPy, and the names and shapes of its tensors.

One encoder is shared by all buckets, its outputs are averaged into the run's trunk, and one head is shared
by all buckets (Deep Sets, Zaheer et al. 2017, arXiv:1703.06114). The network is therefore equivariant under
permutation of the buckets, and works for any number of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlsched.contract import Array
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES

CLIP = 5.0
"""Normalised observations are clipped to this many standard deviations."""


def tensor_shapes(trunk: int, bucket: int, run: int = len(RUN_FEATURES)) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network with `trunk` and `bucket` hidden units, `run` run features."""
    per_bucket = len(BUCKET_FEATURES)
    normalizer: dict[str, tuple[int, ...]] = {
        f"normalizer.{part}_{statistic}": (size,)
        for part, size in (("run", run), ("bucket", per_bucket))
        for statistic in ("low", "high", "mean", "std")
    }
    layers = {
        "encoder": (bucket, per_bucket),
        "trunk.0": (trunk, run + bucket),
        "trunk.1": (trunk, trunk),
        "lr_head": (1, trunk),
        "bucket_head.0": (bucket, trunk + bucket),
        "bucket_head.1": (1, bucket),
    }
    weights: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in layers.items()}
    biases: dict[str, tuple[int, ...]] = {f"{name}.bias": (shape[0],) for name, shape in layers.items()}
    return normalizer | weights | biases


def forward(tensors: Mapping[str, Array], observation: Array) -> Array:
    """Actions (R, 1 + K) in [-1, 1] for observations (R, F + K * B): learning-rate move, bucket logits."""
    return np.clip(mean_action(tensors, observation), -1.0, 1.0)


def mean_action(tensors: Mapping[str, Array], observation: Array) -> Array:
    """`forward` before it is clipped: the mean about which an agent explores."""
    runs, num_features = len(observation), len(RUN_FEATURES)
    run = _normalise(tensors, "run", observation[:, :num_features])
    buckets = observation[:, num_features:].reshape(runs, -1, len(BUCKET_FEATURES))
    encoded = np.tanh(_linear(tensors, "encoder", _normalise(tensors, "bucket", buckets)))

    hidden = np.concatenate([run, encoded.mean(axis=1)], axis=1)
    hidden = np.tanh(_linear(tensors, "trunk.0", hidden))
    hidden = np.tanh(_linear(tensors, "trunk.1", hidden))
    move = _linear(tensors, "lr_head", hidden)

    shared = np.broadcast_to(hidden[:, None], (*encoded.shape[:2], hidden.shape[1]))
    head = np.tanh(_linear(tensors, "bucket_head.0", np.concatenate([shared, encoded], axis=2)))
    logits = _linear(tensors, "bucket_head.1", head)[:, :, 0]
    return np.concatenate([move, logits], axis=1)


def _normalise(tensors: Mapping[str, Array], part: str, values: Array) -> Array:
    """Clip to the range seen in training, standardise, clip again: the network never extrapolates far."""
    low, high, mean, std = (tensors[f"normalizer.{part}_{s}"] for s in ("low", "high", "mean", "std"))
    return np.clip((np.clip(values, low, high) - mean) / std, -CLIP, CLIP)


def _linear(tensors: Mapping[str, Array], name: str, values: Array) -> Array:
    return values @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
