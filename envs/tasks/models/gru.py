"""A gated recurrent unit that can be stacked with `torch.vmap`, which `nn.GRU` cannot."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsched.envs.tasks.models.init import linear, uniform


class CharacterGRU(nn.Module):
    """One GRU layer on one-hot tokens, and a linear layer.

    Tokens x_1 ... x_L; with weights named as in `nn.GRU` and h_0 = 0 (Cho et al. 2014, arXiv:1406.1078):

        r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)
        z_t = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)
        n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    Args:
        vocabulary: tokens V.
        width: size of the state h.
        generator: of the weights; torch's default distributions.
    """

    def __init__(self, vocabulary: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = width**-0.5
        self.input = uniform(nn.utils.skip_init(nn.Linear, vocabulary, 3 * width), bound, generator)
        self.recurrent = uniform(nn.utils.skip_init(nn.Linear, width, 3 * width), bound, generator)
        self.output = linear(width, vocabulary, generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, L, V) of the token after each of `tokens` (B, L)."""
        # The inputs of all steps at once: the loop is left with one small product a step.
        looked_up = nn.functional.embedding(tokens.transpose(0, 1), self.input.weight.t())
        steps = (looked_up + self.input.bias).unbind(0)
        state = torch.zeros_like(steps[0].chunk(3, dim=-1)[0])
        states = []
        for step in steps:
            reset, update, new = step.chunk(3, dim=-1)
            reset_h, update_h, new_h = self.recurrent(state).chunk(3, dim=-1)
            gate = torch.sigmoid(update + update_h)
            candidate = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
            state = candidate + gate * (state - candidate)
            states.append(state)
        return self.output(torch.stack(states, dim=1))
