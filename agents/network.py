"""The actor-critic for stable-baselines3: equivariant over buckets, for any number of them."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from rlsched.agents.normalizer import Normalizer
from rlsched.agents.privileged import FACTS
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES

_SETTINGS = ("units", "bucket_units", "members", "privileged")


class Trunk(nn.Module):
    """Run features, `extra` more and the mean of encoded buckets, through two hidden layers."""

    def __init__(self, units: int, bucket_units: int, extra: int = 0) -> None:
        super().__init__()
        self.encoder = nn.Linear(len(BUCKET_FEATURES), bucket_units)
        inputs = len(RUN_FEATURES) + extra + bucket_units
        self.trunk = nn.ModuleList([nn.Linear(inputs, units), nn.Linear(units, units)])

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


class Ensemble(nn.Module):
    """Actors that differ in what they began from, and act as one: by the mean of their actions.

    Where they have learned the same they agree; on runs unlike those they learned from they err differently, and
    their mean errs less (deep ensembles, Lakshminarayanan et al. 2017, arXiv:1612.01474).
    """

    def __init__(self, units: int, bucket_units: int, members: int) -> None:
        super().__init__()
        self.members = nn.ModuleList([Actor(units, bucket_units) for _ in range(members)])

    @property
    def actors(self) -> list[Actor]:
        """The members."""
        return cast("list[Actor]", list(self.members))

    def each(self, run: Tensor, buckets: Tensor) -> Tensor:
        """The mean actions (M, n, 1 + K) of every member."""
        return torch.stack([actor.act(run, buckets) for actor in self.actors])

    def act(self, run: Tensor, buckets: Tensor) -> Tensor:
        """Mean action (n, 1 + K)."""
        return self.each(run, buckets).mean(dim=0)


class ActorCriticNet(nn.Module):
    """What stable-baselines3 calls the mlp extractor: here it goes all the way to the mean action.

    Its input is an observation (n, F + K * B) followed by the task's facts (n, P), which the critic alone reads,
    and that only if it is `privileged`.
    """

    def __init__(self, num_actions: int, units: int, bucket_units: int, members: int, privileged: bool) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = num_actions, units
        self.privileged = privileged
        self.normalizer = Normalizer()
        self.actor = Ensemble(units, bucket_units, members)
        self.critic = Trunk(units, bucket_units, len(FACTS) if privileged else 0)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(observation), self.forward_critic(observation)

    def forward_actor(self, observation: Tensor) -> Tensor:
        return self.actor.act(*self.normalizer(observation[:, : -len(FACTS)]))

    def forward_critic(self, observation: Tensor) -> Tensor:
        seen, known = observation[:, : -len(FACTS)], observation[:, -len(FACTS) :]
        run, buckets = self.normalizer(seen)
        return self.critic(torch.cat([run, known], dim=1) if self.privileged else run, buckets)[0]


class BucketEquivariantPolicy(ActorCriticPolicy):
    """`ActorCriticPolicy` over `ActorCriticNet`. Before training its mean action is close to zero.

    Args:
        units: hidden units of the trunks.
        bucket_units: hidden units per bucket.
        members: actors whose mean acts, each of the size above.
        privileged: whether the critic reads the facts of the task, see `agents.privileged`.
        args, kwargs: as for `ActorCriticPolicy`.
    """

    mlp_extractor: ActorCriticNet  # type: ignore[assignment]

    def __init__(
        self,
        *args: Any,
        units: int = 64,
        bucket_units: int = 32,
        members: int = 1,
        privileged: bool = True,
        **kwargs: Any,
    ) -> None:
        self.units, self.bucket_units, self.members, self.privileged = units, bucket_units, members, privileged
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        shape = self.action_space.shape
        assert shape is not None
        self.mlp_extractor = ActorCriticNet(shape[0], self.units, self.bucket_units, self.members, self.privileged)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        for actor in self.mlp_extractor.actor.actors:
            for head in (actor.lr_head, actor.bucket_head[1]):
                head.apply(partial(self.init_weights, gain=0.01))
        # The actor's heads already give the mean action.
        self.action_net = nn.Identity()
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        return parameters | {name: getattr(self, name) for name in _SETTINGS}
