"""The actor-critic for stable-baselines3: equivariant over buckets, for any number of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from rlsched.agents.normalizer import Normalizer
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES


class Trunk(nn.Module):
    """Run features and the mean of encoded buckets, through two hidden layers."""

    def __init__(self, units: int, bucket_units: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(len(BUCKET_FEATURES), bucket_units)
        self.trunk = nn.ModuleList([nn.Linear(len(RUN_FEATURES) + bucket_units, units), nn.Linear(units, units)])

    def forward(self, run: Tensor, buckets: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden (n, units) of the run and encoding (n, K, bucket_units) of its buckets."""
        encoded = torch.tanh(self.encoder(buckets))
        hidden = torch.cat([run, encoded.mean(dim=1)], dim=1)
        for layer in self.trunk:
            hidden = torch.tanh(layer(hidden))
        return hidden, encoded


class Actor(Trunk):
    """Mean action (n, 1 + K): the learning-rate move and one logit per bucket, from a shared head."""

    def __init__(self, units: int, bucket_units: int) -> None:
        super().__init__(units, bucket_units)
        self.lr_head = nn.Linear(units, 1)
        self.bucket_head = nn.ModuleList(
            [nn.Linear(units + bucket_units, bucket_units), nn.Linear(bucket_units, 1)]
        )

    def act(self, run: Tensor, buckets: Tensor) -> Tensor:
        hidden, encoded = self(run, buckets)
        shared = hidden[:, None].expand(-1, encoded.shape[1], -1)
        head = torch.tanh(self.bucket_head[0](torch.cat([shared, encoded], dim=2)))
        return torch.cat([self.lr_head(hidden), self.bucket_head[1](head)[:, :, 0]], dim=1)


class ActorCriticNet(nn.Module):
    """What stable-baselines3 calls the mlp extractor: here it goes all the way to the mean action."""

    def __init__(self, num_actions: int, units: int, bucket_units: int) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = num_actions, units
        self.normalizer = Normalizer()
        self.actor = Actor(units, bucket_units)
        self.critic = Trunk(units, bucket_units)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(observation), self.forward_critic(observation)

    def forward_actor(self, observation: Tensor) -> Tensor:
        return self.actor.act(*self.normalizer(observation))

    def forward_critic(self, observation: Tensor) -> Tensor:
        return self.critic(*self.normalizer(observation))[0]


class BucketEquivariantPolicy(ActorCriticPolicy):
    """`ActorCriticPolicy` over `ActorCriticNet`. Before training its mean action is close to zero.

    Args:
        units: hidden units of the trunks.
        bucket_units: hidden units per bucket.
        args, kwargs: as for `ActorCriticPolicy`.
    """

    mlp_extractor: ActorCriticNet  # type: ignore[assignment]

    def __init__(self, *args: Any, units: int = 64, bucket_units: int = 32, **kwargs: Any) -> None:
        self.units, self.bucket_units = units, bucket_units
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        shape = self.action_space.shape
        assert shape is not None
        self.mlp_extractor = ActorCriticNet(shape[0], self.units, self.bucket_units)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        actor = self.mlp_extractor.actor
        for head in (actor.lr_head, actor.bucket_head[1]):
            head.apply(partial(self.init_weights, gain=0.01))
        # The actor's heads already give the mean action.
        self.action_net = nn.Identity()
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        return parameters | {"units": self.units, "bucket_units": self.bucket_units}
