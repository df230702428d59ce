"""Character language models of the Python standard library's source text."""

from __future__ import annotations

import functools
import hashlib
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from rlsched import _check
from rlsched.contract import Array
from rlsched.envs.tasks.assemble import Pool, assemble, mislabel
from rlsched.envs.tasks.data import DataConfig, DataFamily, happens, log_uniform
from rlsched.envs.tasks.losses import sequence_cross_entropy
from rlsched.envs.tasks.models import CharacterGRU, CharacterTransformer
from rlsched.envs.tasks.task import Task, TaskConfig, expect

LENGTH = 32
"""Tokens of an example."""

VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))
"""Tokens 0 to 95: newline and the printable ASCII characters."""

EXCERPT = 8000
"""Characters in use of each module, its first."""

# SHA-256 of each module's source as of Python 3.11.7, of which `text/` holds the first 8,000 characters.
MODULES = {
    "cmd": "fb82a8c4e44e5b559c88d516d79051534cec69a463df97defe05ac8a261f0a0d",
    "csv": "6c68a5186e3b85e6e267a7ef96479327a45ae2b40bf5e9f2017e4b2282b3f5b1",
    "html.parser": "2fc512ae95bed2746b5ba3fabb14fcebf3114ff808ce97d96214ddd613b253da",
    "json.decoder": "9f02654649816145bc76f8c210a5fe3ba1de142d4d97a1c93105732e747c285b",
    "queue": "f6c37fc37cd7440979f7d22d40ee818fa3b714c573610c08fa52911d541193f0",
    "textwrap": "62867e40cdea6669b361f72af4d7daf0359f207c92cbeddfc7c7506397c1f31c",
}


@dataclass(frozen=True, kw_only=True)
class CharactersConfig(DataConfig):
    """One character language model: from each of 32 characters, the next.

    Attributes:
        model: "transformer" (causal, two heads) or "gru".
        width: of the transformer's residual stream, or the GRU's state; even, in [2, 512].
        layers: of a transformer, in [1, 8].
        embedding_scale: standard deviation of a transformer's initial embeddings, in [1e-3, 10]: 0.02 in GPT-2,
            1 in torch.
        norm_first: whether a transformer normalises before its layers, as GPT-2, or after them, as BERT and torch.
    """

    model: str = "gru"
    width: int = 32
    layers: int = 1
    embedding_scale: float = 0.1
    norm_first: bool = True

    shared: ClassVar[tuple[str, ...]] = (*DataConfig.shared, "model", "width", "layers", "norm_first")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("model", self.model, ("gru", "transformer"))
        _check.integer("width", self.width, 2, 512)
        if self.width % 2:
            raise ValueError(f"width must be even, for two heads, got {self.width}.")
        _check.integer("layers", self.layers, 1, 8)
        _check.real("embedding_scale", self.embedding_scale, 1e-3, 10.0)
        _check.real("input_scale", self.input_scale, 1.0, 1.0, "Inputs are tokens.")
        _check.real("input_offset", self.input_offset, 0.0, 0.0, "Inputs are tokens.")


@dataclass(frozen=True)
class Characters(DataFamily):
    """Language models of characters, on as many modules as there are buckets, and five at most.

    A domain is a module; a drift starts with a module of which nothing is used otherwise. A step costs 25 to 120
    times that of an MLP, so runs and batches are limited.

    Attributes:
        post_norm: share of the transformers that normalise after their layers, in [0, 1].
    """

    max_steps: int = 500
    max_batch: int = 32
    post_norm: float = 0.0

    reference_lr: ClassVar[dict[str, float]] = {"sgd": 0.2, "adam": 0.01, "adamw": 0.01}
    most_examples: ClassVar[float] = 580
    config_type: ClassVar = CharactersConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.real("input_scales", self.input_scales, 1.0, 1.0, "Inputs are tokens.")
        _check.real("off_centre", self.off_centre, 0.0, 0.0, "Inputs are tokens.")
        _check.real("post_norm", self.post_norm, 0.0, 1.0)

    def sample(self, rng: np.random.Generator) -> CharactersConfig:
        """Settings of one task."""
        common = self.common(rng) | {"imbalance": 1.0}
        model = str(rng.choice(["gru", "transformer"]))
        return CharactersConfig(
            **common,
            model=model,
            width=int(rng.choice([16, 32, 64] if model == "gru" else [16, 32])),
            layers=1 if model == "gru" else int(rng.integers(1, 3)),
            embedding_scale=0.1 if model == "gru" else log_uniform(rng, 0.02, 1.0),
            norm_first=model == "gru" or not happens(rng, self.post_norm),
        )

    def build(self, config: TaskConfig) -> Task:
        """The task of `config`, a `CharactersConfig`."""
        config = expect(config, CharactersConfig)
        rng = np.random.default_rng(config.data_seed)
        modules = rng.permutation(sorted(MODULES))
        used = modules[: min(config.num_buckets, len(MODULES) - 1)]
        parts = [_windows(module) for module in used]
        windows = np.concatenate(parts)
        domains = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        # Blank lines and the like: they would be training and test examples at once.
        _, first = np.unique(windows[:, :-1], axis=0, return_index=True)
        windows, domains = windows[first], domains[first]
        vocabulary = len(VOCABULARY)
        make_model: Callable[[torch.Generator], nn.Module] = (
            functools.partial(CharacterGRU, vocabulary, config.width)
            if config.model == "gru"
            else functools.partial(
                CharacterTransformer,
                vocabulary,
                LENGTH,
                config.width,
                config.layers,
                scale=config.embedding_scale,
                norm_first=config.norm_first,
            )
        )
        return assemble(
            config,
            Pool(windows[:, :-1], windows[:, 1:], domains=domains, standardise=False),
            rng,
            make_model=make_model,
            loss=sequence_cross_entropy,
            score=bigram_losses,
            drift=functools.partial(_another_module, config, str(modules[-1])),
        )

    @staticmethod
    def source_of(module: str) -> str:
        """Where the text of `module`, one of `MODULES`, is read.

        "installed": this Python's own copy, which is the pinned one; "excerpt": the one in this package, because
        this Python's is another version or cannot be read. The text in use is the same.
        """
        return _load(_check.choice("module", module, MODULES))[0]


def bigram_losses(inputs: Array, targets: Array) -> Array:
    """Mean cross-entropy (n,), nats, of the targets (n, L) given the characters (n, L) before them.

    It is that of the frequencies of pairs in these examples, with one of each added.
    """
    counts = np.ones((len(VOCABULARY), len(VOCABULARY)))
    np.add.at(counts, (inputs, targets), 1.0)
    surprise = -np.log(counts / counts.sum(axis=1, keepdims=True))
    losses: Array = surprise[inputs, targets].mean(axis=1)
    return losses


def _another_module(
    config: CharactersConfig, module: str, inputs: Array, targets: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Windows of `module` from anywhere in it, as many as there are inputs."""
    tokens = _tokens(module)
    starts = rng.integers(len(tokens) - LENGTH, size=len(inputs))
    windows = tokens[starts[:, None] + np.arange(LENGTH + 1)]
    return windows[:, :-1], mislabel(windows[:, 1:], 0, config.label_noise, rng)


@functools.cache
def _windows(module: str) -> Array:
    """(n, 33) consecutive pieces of the text, which have no character in common."""
    tokens = _tokens(module)
    return tokens[: len(tokens) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)


@functools.cache
def _tokens(module: str) -> Array:
    lookup = np.zeros(128, dtype=np.int64)
    lookup[[ord(character) for character in VOCABULARY]] = np.arange(len(VOCABULARY))
    return lookup[np.frombuffer(_load(module)[1].encode("ascii"), dtype=np.uint8)]


@functools.cache
def _load(module: str) -> tuple[str, str]:
    """Where the text was read, "installed" or "excerpt", and the text, which is the same."""
    path = Path(sysconfig.get_path("stdlib"), *module.split(".")).with_suffix(".py")
    try:
        source = path.read_bytes()
    except OSError:  # a Python without sources, or without this module
        source = b""
    if hashlib.sha256(source).hexdigest() == MODULES[module]:
        return "installed", source[:EXCERPT].decode("ascii")
    excerpt = resources.files(__package__) / "text" / f"{module}.txt"
    return "excerpt", excerpt.read_text(encoding="ascii")
