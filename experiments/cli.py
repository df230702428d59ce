"""The `rlsched` command line: one module per command, imported when it is asked for."""

from __future__ import annotations

import importlib
import sys

from rlsched import PolicyFormatError
from rlsched._check import ArgumentError

COMMANDS = {
    "train": "learn a schedule policy and export it",
    "refine": "improve a policy on tasks of your choice, by trying other learning rates along its runs",
    "score": "score a policy on tasks that neither trained nor selected it",
    "harm": "count how often a policy does harm, in plain runs from misjudged learning rates",
    "evaluate": "compare a policy with what people tune, on tasks that neither trained nor selected it",
    "report": "draw an evaluation, as one HTML page and pictures",
    "ablate": "train without one part of the recipe at a time, and compare",
    "importance": "say how much worse a policy is without some of its observations",
    "controllers": "list the methods of the field that set a learning rate or a curriculum",
    "compare": "run some of them side by side on one task",
    "tasks": "list the families of training tasks and their ranges",
    "inspect": "show what a policy file says of its policy",
    "plot": "draw what a policy did in a run of yours",
    "demo": "train a small policy, and use it on data it never saw",
    "bench": "measure speed and memory, and write the rows with --json FILE",
}

RESUME = {
    "train": "\n--resume goes on from the last checkpoint, if there is one.",
    "ablate": "\nThe same command goes on where it was.",
    "evaluate": "\nThe same command goes on where it was.",
    "refine": "\n--resume goes on after the last round that is whole.",
}
"""What to do after a stop from outside."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command that `arguments` (by default the process's) name; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(_usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"rlsched: no command {name!r}.\n\n{_usage()}", file=sys.stderr)
        return 2
    try:
        import tyro

        module = importlib.import_module(f"rlsched.experiments.{name}")
        # The defaults of some commands depend on their other arguments.
        command = module.command(rest) if hasattr(module, "command") else module.main
        tyro.cli(command, prog=f"rlsched {name}", args=rest)
    except ModuleNotFoundError as error:
        print(f"rlsched: {error.name} is missing: pip install 'rlsched[train,plots]'", file=sys.stderr)
        return 1
    except (OSError, PolicyFormatError, ArgumentError) as error:
        print(f"rlsched {name}: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        # Imported only now, since it comes with the whole training stack.
        from rlsched.agents.rollouts.errors import RolloutError

        if not isinstance(error, RolloutError):
            raise
        print(f"rlsched {name}: {error}{RESUME.get(name, '')}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nrlsched {name}: stopped.{RESUME.get(name, '')}", file=sys.stderr)
        return 130
    return 0


def _usage() -> str:
    commands = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    return f"usage: rlsched COMMAND [OPTIONS]\n\n{commands}\n\nrlsched COMMAND --help shows the options."


if __name__ == "__main__":
    sys.exit(main())
