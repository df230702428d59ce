"""`rlsched plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from rlsched._check import ArgumentError
from rlsched.experiments.plots import plot_run
from rlsched.run_log import read_run_log


def main(run: Annotated[Path, tyro.conf.Positional], out: Path | None = None) -> None:
    """Draw what a scheduled run did: learning rates, losses, bucket weights and events.

    Args:
        run: the file that `RLScheduler(..., log_to=...)` wrote.
        out: the picture; by default beside the file, with its name.
    """
    if run.is_dir():
        raise IsADirectoryError(f"{run} is a folder: give the file in it that log_to= named.")
    try:
        decisions, events = read_run_log(run)
    except ValueError as error:
        raise ArgumentError(
            f"{run} cannot be read ({error}). Give the file that RLScheduler(..., log_to=...) wrote."
        ) from error
    if not decisions:
        raise ArgumentError(f"{run} holds no decision yet: wait for the run to take one.")
    picture = plot_run(decisions, events, run.with_suffix(".png") if out is None else out)
    for event in events:
        print(f"step {event.step}: {event.message}")
    print(f"{len(decisions)} decisions, {len(events)} events. Picture: {picture}")
