"""Where the settings of a training come from, before the flags of the command line change them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rlsched import _check
from rlsched.agents import TrainConfig
from rlsched.agents.presets import PRESETS
from rlsched.experiments.config_file import read_config


def base_config(arguments: Sequence[str]) -> TrainConfig:
    """The settings that `--preset`, `--config` and `--resume` in `arguments` ask for.

    The preset comes first and the file changes it. A training that is resumed starts from its own settings, unless
    a preset is named: then, from the preset, and the folder refuses what does not fit.
    """
    # Whether these flags are well formed, the parser of the whole command line says.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--preset", "--config", "--out"):
        parser.add_argument(flag, nargs="?")
    parser.add_argument("--resume", action="store_true")
    given, _ = parser.parse_known_args(list(arguments))

    stored = Path(given.out or "") / "config.json"
    if given.resume and given.preset is None and stored.is_file():
        base = _stored(stored)
    else:
        base = PRESETS[_check.choice("preset", given.preset or "default", PRESETS)]
    return read_config(Path(given.config), base) if given.config else base


def _stored(path: Path) -> TrainConfig:
    try:
        return read_config(path, TrainConfig())
    except _check.ArgumentError as error:
        raise _check.ArgumentError(
            f"cannot resume: {error} If another version of rlsched made it, use that one, or start afresh in "
            "another folder."
        ) from error
