"""Settings from a file: TOML, or JSON as a training stores it."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from rlsched._check import ArgumentError
from rlsched.agents import TrainConfig

RECORDS = ("distribution", "made_with")
"""What `config.json` of a training holds beside its settings, for the record."""

WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}

ConfigT = TypeVar("ConfigT")


def read_config(path: Path, base: TrainConfig) -> TrainConfig:
    """`base`, changed in the fields that the file at `path` names.

    Raises ArgumentError, which names the file, the field and what is known, if the file cannot be used.
    """
    settings = {name: value for name, value in _parse(path).items() if name not in RECORDS}
    return _changed(base, settings, path, "")


def _parse(path: Path) -> dict[str, Any]:
    if path.suffix not in (".toml", ".json"):
        raise ArgumentError(f"config must be a file that ends in .toml or .json, got {path}.")
    if not path.is_file():
        raise ArgumentError(f"config must be a file, there is none at {path}.")
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:  # those of both parsers and of the decoding
        raise ArgumentError(f"{path} is no valid {path.suffix[1:].upper()}: {error}.") from error
    if not isinstance(found, dict):
        raise ArgumentError(f"{path} must hold an object with the names of settings, holds a {_kind(found)}.")
    return found


def _changed(config: ConfigT, settings: Mapping[str, Any], path: Path, table: str) -> ConfigT:
    """`config`, a dataclass that is the `table` of a `TrainConfig` (itself if that is empty), with `settings`."""
    types, values = get_type_hints(type(config)), {}
    names = [field.name for field in dataclasses.fields(config)]  # type: ignore[arg-type]
    for name, value in settings.items():
        place = f"{table}.{name}" if table else name
        if name not in names:
            raise ArgumentError(f"{path}: there is no setting {place}. {_known(name, table, names)}")
        if dataclasses.is_dataclass(types[name]):
            if not isinstance(value, Mapping):
                raise ArgumentError(f"{path}: {place} must be a table of settings, got {value!r}.")
            values[name] = _changed(getattr(config, name), value, path, place)
        else:
            values[name] = _value(types[name], value, f"{path}: {place}")
    try:
        return dataclasses.replace(config, **values)  # type: ignore[type-var]
    except ValueError as error:
        raise ArgumentError(f"{path}: {table}.{error}" if table else f"{path}: {error}") from error


def _value(kind: type, value: Any, place: str) -> Any:
    """`value` if it is of the `kind`; whole numbers are numbers, but flags are not."""
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise ArgumentError(f"{place} must be {WORDS[kind]}, got {value!r} ({_kind(value)}).")


def _known(name: str, table: str, names: list[str]) -> str:
    """The nearest names wherever they are, or all of the table."""
    by_last: dict[str, list[str]] = {}
    for place in _places(TrainConfig, ""):
        by_last.setdefault(place.rpartition(".")[2], []).append(place)
    alike = [name] if name in by_last else difflib.get_close_matches(name, by_last, cutoff=0.75)
    near = [place for last in alike for place in by_last[last]]
    if near:
        # Of settings by the same name, the one of this table first.
        near.sort(key=lambda place: place.rpartition(".")[0] != table)
        return f"Did you mean {' or '.join(near[:3])}?"
    return f"{table or 'The file'} may have {', '.join(names)}."


def _places(kind: Any, table: str) -> Iterator[str]:
    types = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        place = f"{table}.{field.name}" if table else field.name
        yield place
        if dataclasses.is_dataclass(types[field.name]):
            yield from _places(types[field.name], place)


def _kind(value: Any) -> str:
    return "table" if isinstance(value, dict) else type(value).__name__
