"""The policy file: safetensors whose one metadata entry, `rlsched`, is validated JSON.

Reading it executes nothing. Every field and every shape is checked, and what is not known is refused.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from rlsched.action import ActionSpec
from rlsched.contract import Array
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES
from rlsched.policy.network import tensor_shapes

FORMAT_VERSION = 3
"""2: `ActionSpec.settling`, which is 0 in files of version 1. 3: the feature `epochs`, which older ones ignore."""
_SINCE = {"epochs": 3}
"""Of run features: the version that brought them, if it is not the first."""
FILE_NAME = "policy.safetensors"
"""Of the policy in a folder."""
MAX_BYTES = 16 * 2**20
MAX_UNITS = 1024
LARGEST = 1e6
"""What a weight or a statistic of a policy may be."""
LICENCE = "Apache-2.0"


class PolicyFormatError(ValueError):
    """A file is not a policy that this version of rlsched can use; the message says why."""


@dataclass(frozen=True)
class PolicyMetadata:
    """What a policy file says of its policy beside the weights.

    Attributes:
        action: how actions are decoded.
        training: what it was trained on, as JSON: task distribution, seeds, budget, settings.
        evaluation: its figures, as JSON.
        rlsched_version: version of the code that wrote it.
        licence: SPDX identifier of the policy's licence.
    """

    action: ActionSpec = field(default_factory=ActionSpec)
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    rlsched_version: str = "unknown"
    licence: str = LICENCE


def encode(tensors: Mapping[str, Array], metadata: PolicyMetadata) -> bytes:
    """The bytes of a policy file; `tensors` are checked first."""
    check_tensors(tensors)
    fields = {
        "format_version": FORMAT_VERSION,
        "run_features": [feature.name for feature in RUN_FEATURES],
        "bucket_features": [feature.name for feature in BUCKET_FEATURES],
        **dataclasses.asdict(metadata),
    }
    try:
        text = json.dumps(fields, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be JSON with finite numbers: {error}.") from error
    return safetensors.numpy.save(dict(tensors), metadata={"rlsched": text})


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], PolicyMetadata]:
    """Tensors and metadata of the policy file at `path`, or in that folder; PolicyFormatError if it is not one."""
    path = find_file(Path(path))
    _check_file(path)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            entries = file.metadata() or {}
            names = list(file.keys())
            if len(names) > 100:
                raise PolicyFormatError(f"{path}: {len(names)} tensors; a policy has fewer than 100.")
            tensors = {name: file.get_tensor(name) for name in names}
    except PolicyFormatError:
        raise
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as e:
        raise PolicyFormatError(f"{path} is no valid safetensors file ({e}): export the policy anew.") from e
    if set(entries) != {"rlsched"}:
        raise PolicyFormatError(f"{path} is a safetensors file, but not an rlsched policy.")
    metadata, version = _parse(entries["rlsched"])
    known = np.array([_SINCE.get(feature.name, 1) <= version for feature in RUN_FEATURES])
    check_tensors(tensors, int(known.sum()))
    return _ignoring(tensors, known), metadata


def check_tensors(tensors: Mapping[str, Array], run: int = len(RUN_FEATURES)) -> None:
    """PolicyFormatError unless names, types, shapes and values are those of a network with `run` run features."""
    trunk, bucket = (_units(tensors, name) for name in ("trunk.0.bias", "encoder.bias"))
    shapes = tensor_shapes(trunk, bucket, run)
    if set(tensors) != set(shapes):
        missing, unknown = sorted(set(shapes) - set(tensors)), sorted(set(tensors) - set(shapes))
        raise PolicyFormatError(f"policy tensors: missing {missing}, unknown {unknown}.")
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.dtype != np.float32 or tensor.shape != shape:
            found = f"{tensor.dtype} {tensor.shape}"
            raise PolicyFormatError(f"policy tensor {name} must be float32 {shape}, is {found}.")
        # NaN is not within bounds either; beyond them, sums would overflow.
        if not (np.abs(tensor) <= LARGEST).all():
            raise PolicyFormatError(f"policy tensor {name} must be finite, and within ±{LARGEST:g}, everywhere.")
    for part in ("run", "bucket"):
        if (tensors[f"normalizer.{part}_std"] < 1.0 / LARGEST).any():
            raise PolicyFormatError(f"policy tensor normalizer.{part}_std must be at least {1.0 / LARGEST:g}.")
        if (tensors[f"normalizer.{part}_low"] > tensors[f"normalizer.{part}_high"]).any():
            raise PolicyFormatError(f"policy tensors normalizer.{part}_low and _high must be ordered.")


def _ignoring(tensors: dict[str, Array], known: Array) -> dict[str, Array]:
    """The same network, which has no weight for the run features that are not `known` (F,) to it."""
    if known.all():
        return tensors
    wider = dict(tensors)
    for name, value in (("low", 0.0), ("high", 0.0), ("mean", 0.0), ("std", 1.0)):
        wider[f"normalizer.run_{name}"] = np.full(known.size, value, dtype=np.float32)
        wider[f"normalizer.run_{name}"][known] = tensors[f"normalizer.run_{name}"]
    narrow = tensors["trunk.0.weight"]
    columns = np.concatenate([known, np.ones(narrow.shape[1] - int(known.sum()), dtype=bool)])
    wider["trunk.0.weight"] = np.zeros((len(narrow), columns.size), dtype=np.float32)
    wider["trunk.0.weight"][:, columns] = narrow
    return wider


def find_file(path: Path) -> Path:
    """The file, also where a folder is given that holds it, as a training or a model hub leaves it."""
    found = path / FILE_NAME if path.is_dir() else path
    if not found.is_file():
        raise FileNotFoundError(
            f"no policy file at {found}: train one with `rlsched train --out DIR`. Nothing is ever downloaded: a "
            "policy on a model hub is fetched by the hub's own tools, whose local folder can be given here."
        )
    return found


def _check_file(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise PolicyFormatError(f"{path} has {size} bytes; a policy file has at most {MAX_BYTES}.")
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file starts with the length of its header, which may happen to look like a pickle, and "{".
    if start[8:] != b"{" and (start[:1] == b"\x80" or start[:4] == b"PK\x03\x04"):
        raise PolicyFormatError(
            f"{path} is a pickle or a zip archive, which could run code and is never loaded: "
            "give the .safetensors file that `rlsched train` exports."
        )


def _parse(text: str) -> tuple[PolicyMetadata, int]:
    """The metadata, and the version of the format."""
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PolicyFormatError(f"policy metadata is no valid JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise PolicyFormatError("policy metadata must be a JSON object.")
    version = fields.pop("format_version", None)
    if type(version) is not int or version < 1:
        raise PolicyFormatError(f"policy format_version must be a positive integer, is {version!r}.")
    if version > FORMAT_VERSION:
        raise PolicyFormatError(
            f"the policy has format version {version}, this rlsched reads up to {FORMAT_VERSION}: upgrade it."
        )
    for name, features in (("run_features", RUN_FEATURES), ("bucket_features", BUCKET_FEATURES)):
        known = [feature.name for feature in features if _SINCE.get(feature.name, 1) <= version]
        if fields.pop(name, None) != known:
            raise PolicyFormatError(f"policy {name} are not those of this rlsched: use the version it names.")
    expected = {item.name: item.type for item in dataclasses.fields(PolicyMetadata)}
    if set(fields) != set(expected):
        missing, unknown = sorted(set(expected) - set(fields)), sorted(set(fields) - set(expected))
        raise PolicyFormatError(f"policy metadata: missing {missing}, unknown {unknown}.")
    for name, kind in (("training", dict), ("evaluation", dict), ("rlsched_version", str), ("licence", str)):
        if not isinstance(fields[name], kind):
            raise PolicyFormatError(f"policy metadata {name} must be a {kind.__name__}.")
    return PolicyMetadata(**(fields | {"action": _parse_action(fields["action"], version)})), version


def _parse_action(fields: Any, version: int) -> ActionSpec:
    expected = {item.name for item in dataclasses.fields(ActionSpec)}
    if version < 2:
        expected.remove("settling")
    if not isinstance(fields, dict) or set(fields) != expected:
        raise PolicyFormatError(f"policy metadata action must have exactly the fields {sorted(expected)}.")
    try:
        return ActionSpec(**fields)
    except (TypeError, ValueError) as error:
        raise PolicyFormatError(f"policy metadata action: {error}") from error


def _units(tensors: Mapping[str, Array], name: str) -> int:
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != 1 or not 1 <= tensor.size <= MAX_UNITS:
        raise PolicyFormatError(f"policy tensor {name} must be a vector of 1 to {MAX_UNITS} entries.")
    return int(tensor.size)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
