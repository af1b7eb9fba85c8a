"""Look a hook up, and call it: what it raises, and how long it took, is for the log."""

import dataclasses
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from forkserve.errors import ForkserveError, in_a_line, traceback_of
from forkserve.proc.strays import strays_end_here
from forkserve.settings import Settings
from forkserve.settings.hooks import Hook

_SLOW = 0.1
"""Seconds after which a hook of the master is named in the log: nobody is spawned meanwhile."""

_OWN = ("forkserve.hooks.", "importlib")


def call(hook: Hook | None, log: logging.Logger, name: str, *arguments: object) -> bool:
    """Call it, if there is one. False if it raised, which the log says. Never raises.

    A child that it forks does not come back from here.
    """
    if hook is None:
        return True
    try:
        with strays_end_here():
            _function(hook, name)(*arguments)
    except BaseException as error:  # noqa: BLE001 - asyncio.CancelledError, too, is none of Exception
        what, trace = in_a_line(error), traceback_of(error, _OWN)
        log.error("the hook %s (%s) raised %s. The server goes on\n%s", name, hook, what, trace)
        return False
    return True


def call_timed(hook: Hook | None, log: logging.Logger, name: str, *arguments: object) -> bool:
    """The same in the master, which can do nothing else meanwhile."""
    if hook is None:
        return True
    began = time.monotonic()
    fine = call(hook, log, name, *arguments)
    took = time.monotonic() - began
    if took > _SLOW:
        log.warning(
            "the hook %s (%s) took %.2f s. The master does nothing else meanwhile: no worker is "
            "started, replaced or stopped. Let it begin what takes long in a process of its own",
            name, hook, took,
        )  # fmt: skip
    return fine


def _function(hook: Hook, name: str) -> Callable[..., Any]:
    function = hook.function if hook.function is not None else look_up(hook)
    return _of_few(function) if name == "post_request" else function


def look_up(hook: Hook) -> Callable[..., Any]:
    """The function that "module:function" names. Raises ForkserveError, and whatever the module
    raises."""
    module_name, _, name = hook.name.partition(":")
    module = importlib.import_module(module_name)
    function = getattr(module, name, None)
    if not callable(function):
        where = getattr(module, "__file__", None) or "built in"
        raise ForkserveError(f"there is no function {name!r} in the module {module_name} ({where})")
    found: Callable[..., Any] = function
    return found


def _of_few(function: Callable[..., Any]) -> Callable[..., Any]:
    """``post_request`` had two arguments, then three, and has four."""
    import inspect  # it takes a while, for those who use it

    try:
        kinds = [it.kind for it in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return function
    if any(kind is inspect.Parameter.VAR_POSITIONAL for kind in kinds):
        return function
    return lambda *arguments: function(*arguments[: len(kinds)])


def looked_up(settings: Settings, names: Iterable[str], *, anew: bool = False) -> Settings:
    """``settings`` with the functions of the hooks ``names``. ``anew``: their modules are read
    again. Raises ForkserveError, which says which hook cannot be had."""
    found: dict[str, Any] = {}
    modules: set[str] = set()
    for name in names:
        hook = getattr(settings, name)
        if hook is None or hook.function is not None:
            continue
        _search(settings)
        module = hook.name.partition(":")[0]
        if anew and module not in modules:
            modules.add(module)
            sys.modules.pop(module, None)
        try:
            with strays_end_here():
                function = look_up(hook)
        except ForkserveError as error:
            raise ForkserveError(f"the hook {name}: {error}") from None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises
            what, trace = in_a_line(error), traceback_of(error, _OWN)
            raise ForkserveError(f"the hook {name} ({hook}): {what}\n{trace}") from None
        # What is called each time is looked at once.
        found[name] = Hook(hook.name, _of_few(function) if name == "post_request" else function)
    return dataclasses.replace(settings, **found) if found else settings


def _search(settings: Settings) -> None:
    """Let modules be found where the application is."""
    importlib.invalidate_caches()
    for path in (*reversed(settings.pythonpath), settings.chdir or os.getcwd()):
        if os.path.abspath(path) not in sys.path:
            sys.path.insert(0, os.path.abspath(path))


def any_of(settings: Settings, names: Iterable[str]) -> bool:
    """Whether there is one of them."""
    return any(getattr(settings, name) is not None for name in names)
