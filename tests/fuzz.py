"""Damaged and hostile policy files: python -m tests.fuzz [COUNT]"""

from __future__ import annotations

import json
import resource
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlsched import Policy, PolicyFormatError
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES
from tests.policies import random_policy

WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    2**200,
    1e308,
    -0.5,
    "",
    "F64",
    "x" * 1000,
    [],
    {},
    [[]],
    {"a": {}},
    [2**40, 2**40],
]


def truncated(good: bytes, rng: np.random.Generator) -> bytes:
    return good[: rng.integers(len(good))]


def flipped(good: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(good)
    for _ in range(rng.integers(1, 9)):
        changed[rng.integers(len(good))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def header_flipped(good: bytes, rng: np.random.Generator) -> bytes:
    """Flips where they hurt: the header is a small part of a file."""
    changed = bytearray(good)
    for _ in range(rng.integers(1, 5)):
        changed[rng.integers(8 + _header_size(good))] = rng.integers(256)
    return bytes(changed)


def spliced(good: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(len(good), size=2))
    return good[:start] + good[end:] if rng.random() < 0.5 else good[:end] + good[start:end] * 2 + good[end:]


def huge_shapes(good: bytes, rng: np.random.Generator) -> bytes:
    header = _header(good)
    name = rng.choice([name for name in header if name != "__metadata__"])
    shape = [int(2 ** rng.integers(1, 62)) for _ in range(rng.integers(1, 4))]
    header[name]["shape"] = shape
    if rng.random() < 0.5:
        header[name]["data_offsets"] = [0, int(4 * np.prod(np.array(shape, dtype=object)))]
    return _with_header(good, header)


def wrong_types(good: bytes, rng: np.random.Generator) -> bytes:
    """A random entry of header or metadata replaced or removed."""
    header = _header(good)
    metadata = json.loads(header["__metadata__"]["rlsched"])
    inside = rng.random() < 0.7
    _damage(metadata if inside else header, rng)
    if inside:
        header["__metadata__"] = {"rlsched": json.dumps(metadata)}
    return _with_header(good, header)


def deep_json(good: bytes, rng: np.random.Generator) -> bytes:
    header = _header(good)
    depth = int(10 ** rng.uniform(1, 5))
    opening, closing = ("[", "]") if rng.random() < 0.5 else ('{"a":', "}")
    nested = opening * depth + "1" + closing * depth
    metadata = header["__metadata__"]["rlsched"]
    header["__metadata__"]["rlsched"] = (
        nested if rng.random() < 0.5 else metadata[:-1] + ', "more": ' + nested + "}"
    )
    return _with_header(good, header)


def odd_weights(good: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(good)
    count = (len(good) - 8 - _header_size(good)) // 4
    for _ in range(rng.integers(1, 20)):
        at = 8 + _header_size(good) + 4 * int(rng.integers(count))
        changed[at : at + 4] = struct.pack("<f", rng.choice([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0.0]))
    return bytes(changed)


def noise(good: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(200)))


MUTATIONS: list[Callable[[bytes, np.random.Generator], bytes]] = [
    truncated, flipped, header_flipped, spliced, huge_shapes, wrong_types, deep_json, odd_weights, noise,
]  # fmt: skip


def fuzz(count: int, folder: Path, seed: int = 0) -> dict[str, Counter[str]]:
    """Load `count` mutated files; how many were refused or read, by mutation. Any other error is raised.

    A file that is read must be a policy that acts.
    """
    good = random_policy(0, trunk=2, bucket=2).save(folder / "good").read_bytes()
    rng, path = np.random.default_rng(seed), folder / "mutated"
    observations = rng.standard_normal((2, len(RUN_FEATURES) + 4 * len(BUCKET_FEATURES))) * 10
    found: dict[str, Counter[str]] = {mutate.__name__: Counter() for mutate in MUTATIONS}
    for index in range(count):
        mutate = MUTATIONS[index % len(MUTATIONS)]
        path.write_bytes(mutate(good, rng))
        try:
            policy = Policy.load(path)
        except PolicyFormatError:
            found[mutate.__name__]["refused"] += 1
            continue
        except FileNotFoundError as error:
            raise AssertionError("the file is there") from error
        with np.errstate(over="ignore"):
            assert np.isfinite(policy.act(observations)).all(), mutate.__name__
        found[mutate.__name__]["read"] += 1
    return found


def _header_size(good: bytes) -> int:
    return int(struct.unpack("<Q", good[:8])[0])


def _header(good: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(good[8 : 8 + _header_size(good)])
    return header


def _with_header(good: bytes, header: Any) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + good[8 + _header_size(good) :]


def _damage(node: Any, rng: np.random.Generator) -> None:
    """Replace or remove an entry somewhere in `node`."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = keys[rng.integers(len(keys))]
    if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.7:
        _damage(node[key], rng)
    elif rng.random() < 0.2:
        del node[key]
    else:
        node[key] = WRONG[rng.integers(len(WRONG))]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name, counts in fuzz(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, Path(temporary)).items():
            print(f"{name:<16}{dict(counts)}")
        print(f"memory grew by {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f} MiB")
