"""Plain PyTorch loops, as a user writes them: the baseline of stacked training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rlsched.envs.tasks.task import Task


class PlainGRU(nn.Module):
    """The language model of `rlsched.envs.tasks.models.CharacterGRU`, by torch's own fused recurrence."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 3 * width)
        self.gru = nn.GRU(vocabulary, width, batch_first=True)
        self.output = nn.Linear(width, vocabulary)
        self.vocabulary = vocabulary

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, L, V) of tokens (B, L)."""
        inputs = nn.functional.one_hot(tokens, self.vocabulary).to(self.output.weight)
        return self.output(self.gru(inputs)[0])


def loop(task: Task, optimizer: str, steps: int, model: nn.Module | None = None) -> Callable[[], None]:
    """Trains for `steps` steps of batches drawn at random, without telemetry, by torch's default optimizers."""
    generator = torch.Generator().manual_seed(0)
    model = task.make_model(generator) if model is None else model
    tensors: Sequence[Tensor] = task.train.tensors  # type: ignore[attr-defined]
    size = task.config.batch_size
    make: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        "adam": lambda: torch.optim.Adam(model.parameters(), lr=0.001),
    }
    chosen = make[optimizer]()

    def run() -> None:
        for _ in range(steps):
            index = torch.randint(len(tensors[0]), (size,), generator=generator)
            loss = task.loss(model, [values[index] for values in tensors]).mean()
            chosen.zero_grad()
            loss.backward()
            chosen.step()

    return run
