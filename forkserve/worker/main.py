"""What a worker is, from the fork to its exit."""

import atexit
import gc
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence

from forkserve import __version__
from forkserve.apploader import load_application
from forkserve.errors import (
    EXIT_APPLICATION,
    EXIT_FAILED,
    EXIT_OK,
    ApplicationError,
    ForkserveError,
)
from forkserve.net.listeners import Listener
from forkserve.ops.access import AccessLog
from forkserve.ops.logs import ErrorStream, LogFile, error_log
from forkserve.ops.scoreboard import Row
from forkserve.proc.channel import Channel, Message
from forkserve.proc.crash import dump_stacks_to
from forkserve.proc.descriptors import allow_descriptors
from forkserve.proc.lifeline import die_with
from forkserve.proc.privileges import drop_privileges
from forkserve.proc.signals import SignalQueue, unblock_all
from forkserve.proc.title import set_title
from forkserve.settings import Settings
from forkserve.worker.loop import Loop
from forkserve.worker.service import Service
from forkserve.wsgi.environ import listener_environ

# All that the master could be meant by, when a whole process group or cgroup is signalled. Those
# that the loop does nothing about are taken too: their default action would end or stop the worker.
SIGNALS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2,
    signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH,
)  # fmt: skip

_DESCRIPTORS = 256  # for the application, beside those of the connections


def run_worker(
    settings: Settings,
    *,
    slot: int,
    generation: int,
    row: Row,
    listeners: Sequence[Listener],
    channel: Channel,
    error_file: LogFile,
    access_file: LogFile | None,
    master: int,
) -> int:
    """Be a worker. Called in a forked child, with all signals blocked; returns the exit status."""
    # A session of its own: Ctrl-C at the terminal is for the master, which tells the workers.
    os.setsid()
    signals = SignalQueue()
    signals.listen(SIGNALS)
    unblock_all()
    set_title(f"worker {slot} gen {generation}", settings.name or settings.app)
    log = error_log(error_file, settings.log_level, f"worker {slot} gen {generation}")
    try:
        connections = _allowed_connections(settings, log)
        become_the_application(settings, error_file, master)
        app = load_application(settings.app)
    except ForkserveError as error:
        channel.send(Message.FAILED, describe(error))
        return EXIT_APPLICATION if isinstance(error, ApplicationError) else EXIT_FAILED
    access_log = None
    if access_file is not None:
        access_log = AccessLog(access_file, settings.access_logformat)
    service = Service(app, settings, row, log, access_log, time.monotonic)
    environs = [_environ(item, error_file, slot, generation) for item in listeners]
    loop = Loop(
        service, list(zip(listeners, environs, strict=True)), connections, due_after(settings)
    )
    loop.listen_to(channel, signals, lambda: _reopen(log, error_file, access_file))
    # What exists now stays: the collector need not look at it again, nor dirty its shared pages.
    gc.collect()
    gc.freeze()
    channel.send(Message.READY)
    loop.run()
    _run_exit_functions()
    return EXIT_OK


def _allowed_connections(settings: Settings, log: logging.Logger) -> int:
    """`worker_connections`, or as many as the limit of descriptors leaves room for."""
    wanted = settings.worker_connections
    limit = allow_descriptors(wanted + _DESCRIPTORS)
    allowed = min(wanted, max(1, limit - _DESCRIPTORS))
    if allowed < wanted:
        log.warning(
            "%d descriptors are allowed, so at most %d connections are held, not the %d of "
            "`worker_connections`: raise the limit (ulimit -n, LimitNOFILE=), or lower it",
            limit, allowed, wanted,
        )  # fmt: skip
    return allowed


def _reopen(log: logging.Logger, *files: LogFile | None) -> None:
    for file in files:
        if file is not None:
            try:
                file.open()
            except OSError as error:
                log.error("%s cannot be opened anew: %s", file.path, error.strerror)


def become_the_application(settings: Settings, error_file: LogFile, master: int) -> None:
    """Change this process into one that the application can be imported in.

    Raises ForkserveError.
    """
    drop_privileges(settings.user, settings.group)
    if settings.umask is not None:
        os.umask(settings.umask)
    die_with(master)
    # Also for the master's SIGABRT, when a call is stuck.
    dump_stacks_to(error_file)
    prepare_import(settings)


def prepare_import(settings: Settings) -> None:
    """Working directory, module path and environment, as the settings want them.

    Raises ForkserveError.
    """
    for assignment in settings.env:
        name, _, value = assignment.partition("=")
        os.environ[name] = value
    if settings.chdir is not None:
        try:
            os.chdir(settings.chdir)
        except OSError as error:
            raise ForkserveError(
                f"cannot change to the directory {settings.chdir} (`chdir`): {error.strerror}"
            ) from None
    sys.path[:0] = [os.getcwd(), *(os.path.abspath(path) for path in settings.pythonpath)]
    # Modules may have come since the master looked.
    importlib.invalidate_caches()


def describe(error: ForkserveError) -> str:
    """The whole of what a person needs to know of a failed boot."""
    trace = error.traceback if isinstance(error, ApplicationError) else ""
    return f"{error}\n{trace}".rstrip("\n")


def due_after(settings: Settings) -> float:
    """The number of requests after which this worker wants to be replaced."""
    if settings.max_requests is None:
        return float("inf")
    jitter = int.from_bytes(os.urandom(8), "big") % (settings.max_requests_jitter + 1)
    return settings.max_requests + jitter


def _environ(
    listener: Listener, error_file: LogFile, slot: int, generation: int
) -> dict[str, object]:
    return listener_environ(
        ErrorStream(error_file),
        listener.name,
        software=f"forkserve/{__version__}",
        slot=slot,
        generation=generation,
    )


def _run_exit_functions() -> None:
    """What the interpreter does at its end; os._exit, which a forked child ends with, does not."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
