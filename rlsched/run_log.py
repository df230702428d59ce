"""What a scheduled run writes down while it goes on: to a file, or to an experiment tracker."""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rlsched.events import Event

Row = Mapping[str, Any]
"""A decision, as a row of `RLScheduler.history`."""


class RunLog:
    """Passes each decision and each event on to where `log_to` says.

    Args:
        log_to: one of these, told apart by the methods it has; nothing else is required of it, and none of these
            libraries is imported:

            - None: nowhere;
            - a path: a file of JSON lines, which `rlsched plot` draws; a run that is resumed appends to it;
            - a TensorBoard `SummaryWriter`, or whatever has `add_scalar(tag, value, step)`;
            - `mlflow`, a Lightning logger, or whatever has `log_metrics(metrics, step=step)`;
            - `wandb`, a W&B run, or whatever has `log(metrics)`;
            - a function of a step and a dict of numbers.

    Raises:
        TypeError, ValueError: `log_to` is something else, or a folder.
    """

    def __init__(self, log_to: Any = None) -> None:
        self._path = Path(log_to) if isinstance(log_to, str | os.PathLike) else None
        if self._path is not None and self._path.is_dir():
            raise ValueError(
                f"log_to must name a file, got the folder {self._path}: give {self._path / 'run.jsonl'}."
            )
        self._send = None if log_to is None or self._path is not None else _sender(log_to)

    def decision(self, row: Row) -> None:
        """A decision that has just been taken."""
        if self._path is not None:
            plain = {name: np.asarray(value).tolist() for name, value in row.items()}
            self._append({name: _without_nan(value) for name, value in plain.items()})
        elif self._send is not None:
            self._send(int(row["step"]), scalars(row))

    def resumed(self, step: int) -> None:
        """The run goes on from a checkpoint of `step`; what was written after it never happened."""
        if self._path is not None:
            self._append({"resumed": step})

    def event(self, event: Event) -> None:
        """Something that a guard rail noticed; trackers of numbers are not told."""
        if self._path is not None:
            self._append({"step": event.step, "event": event.kind, "message": event.message})

    def _append(self, entry: dict[str, Any]) -> None:
        """Write a line. A run does not end because its log cannot be written: it goes on without one."""
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab+") as file:
                # A run that was killed may have left a line half written.
                if file.tell() and not _ends_whole(file):
                    file.write(b"\n")
                file.write(json.dumps(entry).encode() + b"\n")
        except OSError as error:
            warnings.warn(f"the run goes on, but is no longer logged: {error}.", stacklevel=2)
            self._path = None


def scalars(row: Row) -> dict[str, float]:
    """The numbers of a decision under the names that trackers show; those that are unknown are left out."""
    rates, weights = np.atleast_1d(row["lr"]), row["bucket_weights"]
    named = {"rlsched/loss": row["loss"], "rlsched/validation_loss": row["validation_loss"]}
    named |= {"rlsched/lr_scale": row["lr_scale"], "rlsched/lr": rates[0]}
    named |= {f"rlsched/lr/group_{index}": rate for index, rate in enumerate(rates) if len(rates) > 1}
    named |= {f"rlsched/bucket_weight/{index}": weight for index, weight in enumerate(weights) if len(weights) > 1}
    return {name: float(value) for name, value in named.items() if math.isfinite(value)}


def read_run_log(path: str | os.PathLike[str]) -> tuple[list[dict[str, Any]], list[Event]]:
    """Decisions (missing numbers None) and events of a file that `RunLog` wrote.

    What a run wrote after the checkpoint that it was resumed from is left out, and what it had half written when
    it was killed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """
    decisions: list[dict[str, Any]] = []
    events: list[Event] = []
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if "resumed" in entry:
                decisions = [row for row in decisions if row["step"] <= entry["resumed"]]
                events = [event for event in events if event.step <= entry["resumed"]]
                continue
            if "event" in entry:
                events.append(Event(entry["step"], entry["event"], entry["message"]))
                continue
            step = int(entry["step"])
            row = {name: entry[name] for name in ("lr", "loss", "validation_loss", "bucket_weights")}
        except (ValueError, TypeError, KeyError) as error:
            last = number == len(lines) or lines[number].startswith('{"resumed"')
            if isinstance(error, json.JSONDecodeError) and decisions and last:
                continue  # half written by a run that was killed
            raise ValueError(f"{path}, line {number} is none of a run's log ({type(error).__name__}).") from error
        decisions = [other for other in decisions if other["step"] < step]
        events = [event for event in events if event.step <= step]
        decisions.append({"step": step, **row})
    return decisions, events


def _sender(target: Any) -> Callable[[int, dict[str, float]], None]:
    """A function of step and numbers that calls what `target` has."""
    if isinstance(target, logging.Logger):
        raise TypeError(
            "log_to must not be a logging.Logger, which takes no numbers: pass a function that logs them."
        )
    if hasattr(target, "add_scalar"):
        return lambda step, numbers: _each(target.add_scalar, step, numbers)
    if hasattr(target, "log_metrics"):
        return lambda step, numbers: target.log_metrics(numbers, step=step)
    if hasattr(target, "log"):
        # Without W&B's own step, which must not fall behind the steps that the user logs.
        return lambda step, numbers: target.log({**numbers, "rlsched/step": step})
    if callable(target):
        return lambda step, numbers: target(step, numbers)
    raise TypeError(
        "log_to must be a path, a SummaryWriter, mlflow, wandb, or a function of step and numbers, got "
        f"{type(target).__name__}."
    )


def _each(add_scalar: Callable[[str, float, int], None], step: int, numbers: dict[str, float]) -> None:
    for name, value in numbers.items():
        add_scalar(name, value, step)


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ends_whole(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read() == b"\n"
