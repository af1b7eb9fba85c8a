"""``server``, ``worker`` and ``cfg`` as hooks know them: what is public in Gunicorn's, to be read.

A hook may put attributes of its own on ``server`` and ``worker``; nothing here acts on them.
"""

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from forkserve.hooks.loggers import with_both
from forkserve.settings import Settings
from forkserve.settings.gunicorn import ENTRIES
from forkserve.settings.kinds import Span

_VERIFY = ("none", "optional", "required")  # ssl.CERT_NONE, ...
_WHERE_NONE_IS_ZERO = ("timeout", "max_requests")


class Configuration:
    """The settings by Gunicorn's names, and by ours. What has no counterpart is None."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        entry = ENTRIES.get(name)
        here = name if entry is None else entry.here
        if not here:
            return None
        value = getattr(self._settings, here)
        if isinstance(value, Span):
            return value.least
        if name == "control_socket_disable":
            return value is None
        if name == "cert_reqs":
            return _VERIFY.index(value)
        if value is None and name in _WHERE_NONE_IS_ZERO:
            return 0
        if isinstance(value, tuple):
            return [item if isinstance(item, str) else str(item) for item in value]
        return value

    @property
    def settings(self) -> dict[str, Any]:
        """Name -> what has the value as an attribute, and as what ``get`` returns."""
        values = {name: getattr(self, name) for name in ENTRIES}
        return {
            name: SimpleNamespace(name=name, value=value, get=lambda value=value: value)
            for name, value in values.items()
        }

    @property
    def is_ssl(self) -> bool:
        return self._settings.certfile is not None

    @property
    def worker_class_str(self) -> str:
        return "sync" if self._settings.threads == 1 else "gthread"

    @property
    def env(self) -> dict[str, str]:
        """Of the application, beside what the environment has."""
        return dict(assignment.split("=", 1) for assignment in self._settings.env)


class Server:
    """The master, in the master and in each process that is forked from it.

    ``WORKERS``: pid -> worker, of those that run. ``LISTENERS``: its sockets.
    """

    def __init__(self, log: logging.Logger, settings: Settings) -> None:
        self.log = with_both(log)
        self.cfg = Configuration(settings)
        self.pid = os.getpid()
        self.master_name = "Master"
        self.proc_name = settings.name or settings.app
        self.num_workers = 0
        self.worker_age = 0
        self.address: list[str] = self.cfg.bind
        self.WORKERS: dict[int, Worker] = {}
        self.LISTENERS: Sequence[socket.socket] = ()

    def adopt(self, log: logging.Logger, settings: Settings) -> None:
        """Other settings are in force."""
        self.log, self.cfg = with_both(log), Configuration(settings)
        self.address = self.cfg.bind

    @property
    def app(self) -> Any:
        """What is known of the application here."""
        return SimpleNamespace(cfg=self.cfg, app_uri=self.cfg.wsgi_app)

    def forget_the_dead(self) -> None:
        """For a process that is not told of the end of workers."""
        for pid in [*self.WORKERS]:
            try:
                os.kill(pid, 0)
            except OSError:
                self.WORKERS.pop(pid).alive = False


class Worker:
    """A worker, before its fork and in itself; in the master what it was at the fork, and its pid.

    ``age`` counts all that there were; ``slot`` is its place, which its successor has too.
    """

    def __init__(self, server: Server, slot: int, generation: int, settings: Settings) -> None:
        server.worker_age += 1
        self.age = server.worker_age
        self.slot = slot
        self.generation = generation
        self.pid: int | str = "[booting]"
        self.ppid = os.getpid()
        self.log = server.log
        self.cfg = Configuration(settings)
        self.timeout = settings.timeout or 0
        self.max_requests = settings.max_requests or sys.maxsize
        self.sockets = server.LISTENERS
        self.alive = True
        self.booted = False
        self.aborted = False
        self.wsgi: Callable[..., Any] | None = None
        self.count_requests: Callable[[], int] = lambda: 0

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    @property
    def nr(self) -> int:
        """Requests that it has served."""
        return self.count_requests()

    @property
    def app(self) -> Any:
        """Its application, as an attribute and as what a call returns."""
        uri = self.cfg.wsgi_app
        return SimpleNamespace(callable=self.wsgi, wsgi=self._loaded, cfg=self.cfg, app_uri=uri)

    def _loaded(self) -> Callable[..., Any]:
        """Raises RuntimeError."""
        if self.wsgi is None:
            raise RuntimeError(
                "the application is not loaded yet: it is in post_worker_init, and with preload "
                "in post_fork too"
            )
        return self.wsgi

    def notify(self) -> None:
        """A sign of life, which a worker gives here without being asked."""


class Newborn(NamedTuple):
    """What hooks know of a worker that is about to be, and of its server."""

    server: Server
    worker: Worker
