"""Observation normalisation that is part of the network, so that it cannot be lost on the way to use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES, bounds
from rlsched.policy.network import CLIP

_PARTS = {"run": len(RUN_FEATURES), "bucket": len(BUCKET_FEATURES)}
_MIN_STD = 1e-3


class Normalizer(nn.Module):
    """Clips each feature to the range seen, standardises it and clips again; one statistic for all buckets.

    Statistics are buffers that change only in `update`, which the algorithm calls between rollouts: the
    policy that acts in a rollout is the one the update afterwards reasons about.
    """

    def __init__(self) -> None:
        super().__init__()
        low, high = (torch.from_numpy(bound) for bound in bounds(1))
        offset = 0
        for part, size in _PARTS.items():
            self.register_buffer(f"{part}_low", low[offset : offset + size].clone())
            self.register_buffer(f"{part}_high", high[offset : offset + size].clone())
            self.register_buffer(f"{part}_mean", torch.zeros(size))
            self.register_buffer(f"{part}_std", torch.ones(size))
            self.register_buffer(f"{part}_sums", torch.zeros(3, size, dtype=torch.float64))
            offset += size

    @property
    def calibrated(self) -> bool:
        """Whether `update` has seen anything yet."""
        return bool(self.get_buffer("run_sums")[0, 0] > 0)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised run features (n, F) and bucket features (n, K, B) of observations (n, F + K * B)."""
        run, buckets = _split(observation)
        return self._normalise("run", run), self._normalise("bucket", buckets)

    def update(self, observation: Tensor) -> None:
        """Add observations (n, F + K * B) to the statistics."""
        calibrated = self.calibrated
        for part, values in zip(_PARTS, _split(observation), strict=True):
            values = values.reshape(-1, _PARTS[part]).double()
            sums = self.get_buffer(f"{part}_sums")
            sums += torch.stack([torch.ones_like(values[0]) * len(values), values.sum(0), (values**2).sum(0)])
            mean = sums[1] / sums[0]
            self.get_buffer(f"{part}_mean").copy_(mean)
            variance = (sums[2] / sums[0] - mean**2).clamp(min=_MIN_STD**2)
            self.get_buffer(f"{part}_std").copy_(variance.sqrt())
            for name, extreme, reduce in (
                ("low", values.amin(0), torch.minimum),
                ("high", values.amax(0), torch.maximum),
            ):
                seen = self.get_buffer(f"{part}_{name}")
                seen.copy_(reduce(seen, extreme.float()) if calibrated else extreme.float())

    def _normalise(self, part: str, values: Tensor) -> Tensor:
        low, high, mean, std = (self.get_buffer(f"{part}_{name}") for name in ("low", "high", "mean", "std"))
        return ((values.clamp(low, high) - mean) / std).clamp(-CLIP, CLIP)


def _split(observation: Tensor) -> tuple[Tensor, Tensor]:
    run, buckets = observation[:, : _PARTS["run"]], observation[:, _PARTS["run"] :]
    return run, buckets.reshape(len(observation), -1, _PARTS["bucket"])
