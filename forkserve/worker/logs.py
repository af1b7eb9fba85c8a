"""The logs of a worker: the error log, the access log, and ``wsgi.errors``."""

import atexit
import logging
import time
from collections.abc import Mapping
from io import TextIOBase
from typing import Any, NamedTuple

from forkserve.hooks.loggers import take_back
from forkserve.ops.access import AccessLog
from forkserve.ops.log_config import AccessRelay, ErrorRelay, Relay, Targets, configure
from forkserve.ops.logs import LineStream, LogFile, error_log, error_stream
from forkserve.settings import Settings


class Logs(NamedTuple):
    """``access``: None if nobody asks for it; ``errors`` is ``wsgi.errors``."""

    access: AccessLog | None
    errors: TextIOBase


class LogFiles(NamedTuple):
    """What the master has opened."""

    error: LogFile
    access: LogFile | None


def first_log(settings: Settings, files: LogFiles, who: str) -> logging.Logger:
    """The error log of a process before it knows what `log_config` makes of it."""
    return error_log(files.error, settings.log_level, who, settings.log_format)


def configure_logging(settings: Settings, config: Mapping[str, Any] | None) -> Targets | None:
    """Do here what ``config``, the content of `log_config`, says. Raises ForkserveError."""
    if settings.log_config is None or config is None:
        return None
    take_back()  # what this process has of the master's
    return configure(settings.log_config, config)


def worker_logs(
    settings: Settings,
    files: LogFiles,
    log: logging.Logger,
    targets: Targets | None,
    slot: int,
    generation: int,
) -> Logs:
    """The other logs of a worker. ``log`` is the ``first_log``, and stays in use; ``targets`` is
    what `log_config` has made, for which a thread is started."""
    access, errors = None, error_stream(files.error, log, settings.log_format)
    if files.access is not None:
        access = AccessLog(
            files.access, settings.access_log_format, log.warning, time.monotonic,
            slot=slot, generation=generation,
        )  # fmt: skip
    if targets is None or targets.error is targets.access is None:
        return Logs(access, errors)
    who = f"worker {slot} gen {generation}"
    relay = Relay(first_log(settings, files, who), time.monotonic)
    atexit.register(relay.close)
    if targets.access is not None:
        relay.report_failures_of(targets.access)
        access = AccessRelay(
            relay, targets.access, settings.access_log_format, slot=slot, generation=generation
        )
    if targets.error is not None:
        relay.report_failures_of(targets.error)
        if targets.error.level:
            log.setLevel(targets.error.level)
        (file,) = log.handlers
        log.removeHandler(file)
        log.addHandler(ErrorRelay(relay, targets.error, file))
        errors = LineStream(log)
    return Logs(access, errors)
