"""A user's task by its name, as on the command line."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

from rlsched.envs.tasks.user import UserTask


def load_task(name: str) -> Callable[..., UserTask]:
    """The function that "package.module:function" names, for `UserFamily`.

    Raises:
        ValueError: it names no module that can be found, or nothing callable in it. What the module itself raises
            while it is imported is not caught.
    """
    module_name, colon, function_name = name.partition(":")
    if not (colon and module_name and function_name):
        raise ValueError(f'name must be "package.module:function", got {name!r}.')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, but something that it imports does not
        raise ValueError(
            f"{name!r}: there is no module {error.name!r}: install it, or add its folder to PYTHONPATH."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        offered = [key for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"]
        raise ValueError(
            f"{name!r}: {module_name} has no function {function_name!r}; it has {', '.join(offered) or 'none'}."
        )
    checked: Callable[..., UserTask] = function
    return checked
