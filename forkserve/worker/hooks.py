"""The hooks that a worker calls, and where it calls them.

``pre_request`` and ``post_request`` are in the way of a request only if there is one of them: then
``calls`` returns another function in place of ``run_app``.
"""

import logging
import os
from collections.abc import Callable
from typing import Any

from forkserve.hooks.calling import call, looked_up
from forkserve.hooks.loggers import lend, with_both
from forkserve.hooks.requests import Request, Response
from forkserve.hooks.views import Newborn, Server, Worker
from forkserve.settings import Settings
from forkserve.settings.hooks import WORKER_HOOKS
from forkserve.worker.exchange import Exchange
from forkserve.worker.service import Service
from forkserve.wsgi.call import Application, Environ, run_app

Run = Callable[[Application, Environ, Exchange], None]


class WorkerHooks:
    """Of one worker. Each method may be called when there is no such hook, and never raises."""

    def __init__(
        self,
        settings: Settings,
        log: logging.Logger,
        newborn: Newborn | None,
        slot: int,
        app: Application | None = None,
    ) -> None:
        """In the worker, right after its fork. ``newborn`` is what it is in the master's eyes; None
        if it is none of the application's workers: then no hook is called. ``app``: if it is
        loaded already."""
        self._names: tuple[str, ...] = () if newborn is None else WORKER_HOOKS
        if newborn is None:
            server = Server(log, settings)
            newborn = Newborn(server, Worker(server, slot, 0, settings))
        self._server, self.worker = newborn
        self._server.log = self.worker.log = self.log = with_both(log)
        self.worker.wsgi = app
        self._settings = settings
        if settings.log_config is None:  # else it may be one that its lines go to
            lend(log)
        self.worker.pid, self.worker.ppid = os.getpid(), os.getppid()

    def post_fork(self) -> None:
        """Raises ForkserveError if it is named, and not there."""
        if self._names:
            self._settings = looked_up(self._settings, ("post_fork",))
        self._call("post_fork", self._server, self.worker)

    def prepare(self, settings: Settings) -> None:
        """The process is one that modules can be imported in. Raises ForkserveError."""
        self._settings = looked_up(settings, self._names)

    def post_worker_init(self, service: Service) -> None:
        """The application is loaded."""
        worker = self.worker
        worker.wsgi, worker.booted = service.app, True
        worker.count_requests = lambda: service.requests
        service.run = self._calls(service)
        service.aborts = self.worker_abort
        self._call("post_worker_init", worker)

    def worker_int(self) -> None:
        self.worker.alive = False
        self._call("worker_int", self.worker)

    def worker_abort(self) -> None:
        self.worker.aborted = True
        self._call("worker_abort", self.worker)

    def worker_exit(self) -> None:
        self.worker.alive = False
        self._call("worker_exit", self._server, self.worker)

    def _calls(self, service: Service) -> Run:
        """What calls the application."""
        asked = (self._settings.pre_request, self._settings.post_request)
        if asked == (None, None) or not self._names:
            return run_app

        def run(app: Application, environ: Environ, exchange: Exchange) -> None:
            req = Request(exchange.head, environ)
            self._call("pre_request", self.worker, req)
            environ.update(req.changed())
            try:
                run_app(app, environ, exchange)
            except BaseException as error:
                if service.forked:
                    raise
                exchange.fail(error)
            if not service.forked:
                resp = Response(exchange.encoder)
                self._call("post_request", self.worker, req, environ, resp)

        return run

    def _call(self, name: str, *arguments: Any) -> None:
        if self._names:
            call(getattr(self._settings, name), self.log, name, *arguments)
