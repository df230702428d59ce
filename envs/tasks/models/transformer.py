"""A tiny decoder-only transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsched.envs.tasks.models.init import linear

HEADS = 2


class CharacterTransformer(nn.Module):
    """Transformer with causal attention and learned positions.

    x = E[tokens] + P; in each layer x += Attention(LayerNorm(x)) and x += MLP(LayerNorm(x)), with an MLP four
    times as wide and ReLU, which is cheaper than GELU; logits = W LayerNorm(x) + b. That is pre-norm, as in GPT-2
    (Radford et al. 2019). Post-norm, as in the first transformer (Vaswani et al. 2017, arXiv:1706.03762), is
    x = LayerNorm(x + Attention(x)) and x = LayerNorm(x + MLP(x)), and logits = W x + b.

    Args:
        vocabulary: tokens V.
        length: longest sequence L.
        width: of the residual stream, even.
        layers: number of layers.
        generator: of the weights: torch's default distributions for linear layers, normal for tokens and
            positions.
        scale: standard deviation of the latter.
        norm_first: whether it is pre-norm.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int,
        layers: int,
        generator: torch.Generator,
        *,
        scale: float = 0.1,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.tokens = nn.Parameter(scale * torch.randn(vocabulary, width, generator=generator))
        self.positions = nn.Parameter(scale * torch.randn(length, width, generator=generator))
        self.layers = nn.Sequential(*(_Layer(width, length, norm_first, generator) for _ in range(layers)))
        self.norm = nn.LayerNorm(width) if norm_first else nn.Identity()
        self.output = linear(width, vocabulary, generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, L, V) of the token after each of `tokens` (B, L)."""
        embedded = nn.functional.embedding(tokens, self.tokens) + self.positions[: tokens.shape[-1]]
        return self.output(self.norm(self.layers(embedded)))


class _Layer(nn.Module):
    def __init__(self, width: int, length: int, norm_first: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = linear(width, 3 * width, generator)
        self.mixed = linear(width, width, generator)
        self.expand, self.contract = linear(width, 4 * width, generator), linear(4 * width, width, generator)
        self.mask: Tensor
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self._attend(self.attention_norm(x))
            return x + self._transform(self.mlp_norm(x))
        x = self.attention_norm(x + self._attend(x))
        return self.mlp_norm(x + self._transform(x))

    def _transform(self, x: Tensor) -> Tensor:
        return self.contract(nn.functional.relu(self.expand(x)))

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = self.qkv(x).view(batch, length, 3 * HEADS, width // HEADS).transpose(1, 2)
        queries, keys, values = heads.chunk(3, dim=1)
        # scaled_dot_product_attention has no batching rule for torch.vmap on a CPU, and is no faster at this size.
        scores = queries @ keys.transpose(2, 3) * (width // HEADS) ** -0.5
        attention = torch.softmax(scores + self.mask[:length, :length], dim=-1)
        return self.mixed((attention @ values).transpose(1, 2).reshape(batch, length, width))
