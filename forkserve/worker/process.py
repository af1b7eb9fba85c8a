"""A process that is to run the application, before it does: a worker's, or a template process's."""

import gc
import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from forkserve.apploader import load_application
from forkserve.develop.board import Board
from forkserve.errors import EXIT_FAILED, ForkserveError, in_a_line, traceback_of, why_not
from forkserve.hooks.views import Newborn
from forkserve.ops.capture import capture_output
from forkserve.ops.log_config import Targets
from forkserve.proc.channel import Channel, Message
from forkserve.proc.privileges import drop_privileges
from forkserve.proc.signals import FOR_MASTER, SignalQueue, unblock_all
from forkserve.proc.title import set_title
from forkserve.settings import Settings
from forkserve.worker.debug import debug_warning
from forkserve.worker.logs import LogFiles, configure_logging, first_log
from forkserve.wsgi.chunked import install_uwsgi_module

_USABLE = os.R_OK | os.W_OK | os.X_OK

_KEPT = 2 << 20
"""Octets; twice as many of memory that is free for now stay with the process. With the 128 KiB of
malloc, bodies of 64 have it given back to the kernel and taken anew, page by page, all the time."""


class Preloaded(NamedTuple):
    """What a template process has made before it forks its workers."""

    settings: Settings  # as ``prepare_process`` returned them
    app: Callable[..., Any]
    targets: Targets | None  # of `log_config`
    newborn: Newborn | None = None  # as the template process sees this worker


def hear_signals() -> SignalQueue:
    """Hear those that come from now on, but for those of a terminal: they are for the master, which
    tells all. For a process that was forked with all signals blocked."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    signals = SignalQueue()
    # Also those about which nothing is done: their default action would end or stop the process.
    signals.listen(FOR_MASTER)
    unblock_all()
    return signals


def introduce(settings: Settings, files: LogFiles, who: str) -> logging.Logger:
    """Have a title, and a log that says who writes."""
    set_title(who, settings.name or settings.app)
    return first_log(settings, files, who)


def capture(settings: Settings, files: LogFiles) -> None:
    """`capture_output`, if it is wanted."""
    if settings.capture_output:
        capture_output(*files)


def reopen(
    settings: Settings, log: logging.Logger, files: LogFiles, *, speaks: bool = True
) -> None:
    """Open the log files anew. What stands in the way of one process does so for all: one that
    ``speaks`` tells of it."""
    for file in files:
        if file is not None:
            try:
                file.open()
            except OSError as error:
                log.log(
                    logging.ERROR if speaks else logging.DEBUG,
                    "USR1: cannot open %s. What was open stays in use", why_not(file.path, error),
                )  # fmt: skip
    capture(settings, files)


def prepare_process(settings: Settings) -> Settings:
    """Make this process one that the application can be imported in: user, umask, environment,
    working directory and module path are what the settings say.

    Returns them with paths that stay right if the application then changes the working directory.
    Raises ForkserveError.
    """
    drop_privileges(settings.user, settings.group)
    if settings.umask is not None:
        os.umask(settings.umask)
    for assignment in settings.env:
        name, _, value = assignment.partition("=")
        os.environ[name] = value
    if settings.chdir is not None:
        try:
            os.chdir(settings.chdir)
        except OSError as error:
            raise ForkserveError(
                f"cannot change to the directory {settings.chdir} (`chdir`): {error.strerror}. It "
                f"must be there, and user {os.geteuid()} may enter it"
            ) from None
    try:
        directory = os.getcwd()
    except OSError:
        raise ForkserveError(
            "the working directory is gone: somebody has removed it, or put another in its place, "
            "since the start. Start forkserve anew, or set --chdir to a path that a deploy keeps"
        ) from None
    tmp_dir = settings.tmp_dir
    if tmp_dir is not None and not (os.path.isdir(tmp_dir) and os.access(tmp_dir, _USABLE)):
        raise ForkserveError(
            f"the directory {tmp_dir} (`tmp_dir`) is not there, or user {os.geteuid()} cannot "
            "write in it: bodies are collected there. Make it, or name another"
        )
    sys.path[:0] = [directory, *(os.path.abspath(path) for path in settings.pythonpath)]
    if settings.uwsgi_api:
        install_uwsgi_module()
    # Modules may have come since the master looked.
    importlib.invalidate_caches()
    return settings if tmp_dir is None else replace(settings, tmp_dir=os.path.abspath(tmp_dir))


def load(
    settings: Settings,
    log: logging.Logger,
    log_config: Mapping[str, Any] | None,
    generation: int,
    board: Board | None,
    speaks: bool,
) -> tuple[Callable[..., Any], Targets | None]:
    """The application, as it is to be served, and what `log_config` has made before it.

    ``board``: with `reload`; ``speaks``: this process is the one that tells what concerns them all.
    Raises ForkserveError.
    """
    targets = configure_logging(settings, log_config)
    if board is None and not settings.debugger:
        app = load_application(settings.app)
        warning = debug_warning(app) if speaks else None
        if warning is not None:
            log.warning("%s", warning)
        return app, targets
    from forkserve.develop.application import load_for_development  # only for who develops

    return load_for_development(settings, generation, board, log, speaks=speaks), targets


def settle_memory() -> None:
    """What exists now stays: no collector need look at it again, here or in those that are forked,
    nor write to its pages, which are shared. What is freed later is kept for what comes next.

    For the latter a large block is freed: glibc takes it as the measure of what is worth giving
    back (mallopt(3), M_MMAP_THRESHOLD), unless MALLOC_TRIM_THRESHOLD_ or the like is set.
    """
    gc.collect()
    gc.freeze()
    bytes(_KEPT)


def give_up(channel: Channel, settings: Settings, error: Exception) -> int:
    """Tell the master why there is no worker, or no template process. Returns the exit status."""
    if isinstance(error, ForkserveError):
        channel.send(Message.FAILED, error.report(settings.explained))
        return error.exit_status
    channel.send(Message.FAILED, f"{in_a_line(error)}\n{traceback_of(error, ())}")
    return EXIT_FAILED
