"""The settings of hooks, which are Gunicorn's.

A hook is a function of a Python file (`-c gunicorn.conf.py`), or is named, "module:function". Which
process calls it, with what, is the matter of ``forkserve.hooks``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from forkserve.settings.declaration import declare as _declare
from forkserve.settings.kinds import NONE, Kind


@dataclass(frozen=True, slots=True)
class Hook:
    """``name`` is how it is shown; ``function`` is None until it is looked up by that name."""

    name: str
    function: Callable[..., Any] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.name


def _read_hook(raw: object) -> Hook | None:
    if raw == NONE:
        return None
    if isinstance(raw, Hook):
        return raw
    if callable(raw):
        where = getattr(raw, "__module__", None) or "python"
        return Hook(f"{where}:{getattr(raw, '__qualname__', type(raw).__name__)}", raw)
    if not (isinstance(raw, str) and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", raw)):
        raise ValueError("is not like module:function")
    return Hook(raw)


HOOK = Kind("none|MODULE:FUNCTION", _read_hook, lambda hook: NONE if hook is None else str(hook))


def _hook(arguments: str, says: str, advice: str = "") -> Any:
    return _declare("Hooks", None, HOOK, f"Called with ({arguments}) {says}", advice or _ADVICE)


_ADVICE = 'A function of the Python file of -c, or "module:function".'


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """A part of ``Settings``."""

    # fmt: off
    on_starting: Hook | None = _hook(
        "server", "by the master when its sockets are bound (so clients wait already), before all "
        "else. What it raises refuses the start.",
        "The hooks of the master are the operator's code, and the server waits for them: a slow "
        "one is named in the log.",
    )
    on_reload: Hook | None = _hook(
        "server", "by the master at a HUP, when the new settings are sound and before a worker of "
        "them boots.",
    )
    when_ready: Hook | None = _hook(
        "server", "by the master when its sockets listen, before the first worker is forked.",
    )
    pre_fork: Hook | None = _hook(
        "server, worker", "before each fork, by the process that forks: the master, or with "
        "`preload` the template process, which has a `server` of its own, with its own workers.",
    )
    post_fork: Hook | None = _hook(
        "server, worker", "by each worker at its beginning, before it changes its user.",
    )
    post_worker_init: Hook | None = _hook(
        "worker", "by each worker when it has loaded the application, before it serves.",
    )
    worker_int: Hook | None = _hook(
        "worker", "by each worker that is told to end at once, by INT or QUIT.",
    )
    worker_abort: Hook | None = _hook(
        "worker", "by each worker in which a call has passed `timeout`, when its stack is logged.",
    )
    pre_exec: Hook | None = _hook(
        "server", "by the master before it starts another for an upgrade (USR2).",
    )
    pre_request: Hook | None = _hook(
        "worker, req", "before each call of the application, in its thread.",
    )
    post_request: Hook | None = _hook(
        "worker, req, environ, resp", "after each call of the application, in its thread.",
    )
    child_exit: Hook | None = _hook(
        "server, worker", "by the master when it has collected a worker that ended.",
    )
    worker_exit: Hook | None = _hook(
        "server, worker", "by each worker at its end.",
    )
    nworkers_changed: Hook | None = _hook(
        "server, new_value, old_value", "by the master when another number of workers is wanted; "
        "`old_value` is None at the start.",
    )
    on_exit: Hook | None = _hook(
        "server", "by the master at its end, when all workers have ended.",
    )
    ssl_context: Hook | None = _hook(
        "config, default_ssl_context_factory", "by the master for the context of TLS, at the start "
        "and at each HUP. It returns an ssl.SSLContext.",
        "Only with `certfile`. For what `ciphers` and `tls_min_version` cannot say.",
    )
    # fmt: on


MASTER_HOOKS = (
    "on_starting", "on_reload", "when_ready", "pre_fork", "pre_exec", "child_exit",
    "nworkers_changed", "on_exit", "ssl_context",
)  # fmt: skip
WORKER_HOOKS = (
    "post_fork", "post_worker_init", "worker_int", "worker_abort", "pre_request", "post_request",
    "worker_exit",
)  # fmt: skip
