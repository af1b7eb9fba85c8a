"""A template process: imports the application once, and forks the workers of its generation.

The memory that the import took is shared by all of them, and a worker that is replaced months later
runs the code that was imported then. It is a child of the master like a worker, prepared like one,
and runs no request; its workers are the master's children (see ``proc/grandchild.py``).
"""

import contextlib
import logging
import os
import select
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forkserve.develop.board import Board
from forkserve.errors import EXIT_OK
from forkserve.hooks.calling import call, looked_up
from forkserve.hooks.loggers import lend
from forkserve.hooks.views import Newborn, Server, Worker
from forkserve.net.fdpass import receive_fd
from forkserve.net.listeners import Listener
from forkserve.proc.channel import LARGEST, Channel, Message, unpack
from forkserve.proc.crash import dump_stacks_to
from forkserve.proc.grandchild import fork_grandchild
from forkserve.proc.lifeline import die_with
from forkserve.proc.signals import ENDING, FOR_MASTER, SignalQueue, blocked, default_in_children
from forkserve.settings import Settings
from forkserve.worker.audit import Audit
from forkserve.worker.handoff import HandoffQueue
from forkserve.worker.logs import LogFiles
from forkserve.worker.process import (
    Preloaded,
    capture,
    give_up,
    hear_signals,
    introduce,
    load,
    prepare_process,
    reopen,
    settle_memory,
)

EnterWorker = Callable[[int, int, Channel, Preloaded], int]
"""(slot, row, channel, what is prepared) -> exit status."""


def run_template(
    settings: Settings,
    *,
    generation: int,
    listeners: Sequence[Listener],
    queue: HandoffQueue | None,
    channel: Channel,
    files: LogFiles,
    log_config: Mapping[str, Any] | None,
    master: int,
    board: Board | None,
    server: Server,
    enter_worker: EnterWorker,
) -> int:
    """Be a template process. Called in a forked child, with all signals blocked.

    Returns the exit status; also that of each worker, which is forked here and returns from here.
    """
    signals = hear_signals()
    log = introduce(settings, files, f"template gen {generation}")
    for_workers = [item.close for item in (*listeners, queue) if item is not None]
    template = _Template(channel, signals, for_workers, log, files)
    os.register_at_fork(after_in_child=template.let_go)
    default_in_children(FOR_MASTER)
    try:
        if settings.log_config is None:
            lend(log)
        capture(settings, files)
        settings = looked_up(prepare_process(settings), ("pre_fork",))
        die_with(master)  # after the change of user, at which the kernel forgets it
        dump_stacks_to(files.error)
        audit = Audit()
        app, targets = load(settings, log, log_config, generation, board, True)
        warning = audit.warning(settings.app)
        if warning is not None:
            log.warning("%s", settings.explained(warning))
    except Exception as error:  # noqa: BLE001 - the master waits to hear why
        return give_up(channel, settings, error)
    settle_memory()
    channel.send(Message.READY)
    server.log, server.pid = log, master
    server.WORKERS = {}  # of this process
    return template.serve(Preloaded(settings, app, targets), enter_worker, server, generation)


class _Template:
    """Hears the master's orders, one at a time. Used by the main thread only."""

    def __init__(
        self,
        channel: Channel,
        signals: SignalQueue,
        for_workers: Sequence[Callable[[], None]],
        log: logging.Logger,
        files: LogFiles,
    ) -> None:
        self._channel = channel
        self._signals = signals
        self._for_workers = for_workers  # what closes that
        self._log = log
        self._files = files
        self._bearing = False  # the child that is forked is a worker

    def let_go(self) -> None:
        """In a child: give up what is the template's alone; in one of the application's, all."""
        self._signals.close()
        self._channel.close()
        if not self._bearing:
            for close in self._for_workers:
                close()

    def serve(
        self, preloaded: Preloaded, enter_worker: EnterWorker, server: Server, generation: int
    ) -> int:
        """Fork until told to end, or until the master is gone. Returns as ``run_template`` does."""
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(self._signals.fileno(), select.POLLIN)
        while True:
            poll.poll()
            # The others are meant for the master, and came here because a group was signalled.
            if any(number in ENDING for number in self._signals.take()):
                return EXIT_OK
            try:
                octets, fd = receive_fd(self._channel.sock, LARGEST)
            except BlockingIOError:
                continue
            except OSError as error:
                self._refuse(error)
                continue
            if not octets:
                return EXIT_OK
            message, text = unpack(octets)
            if message is Message.REOPEN:
                reopen(preloaded.settings, self._log, self._files, speaks=False)
            elif message is Message.FORK and fd is not None:
                slot, row = map(int, text.split())
                end = Channel.of(fd)
                server.forget_the_dead()
                newborn = Newborn(server, Worker(server, slot, generation, preloaded.settings))
                call(preloaded.settings.pre_fork, self._log, "pre_fork", *newborn)
                with blocked():
                    if self._bear(newborn):
                        own = preloaded._replace(newborn=newborn)
                        return enter_worker(slot, row, end, own)
                end.close()

    def _bear(self, known_as: Newborn) -> bool:
        """Fork a worker, and tell the master. True in the worker."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the application may have put anything there
                stream.flush()  # else each worker would write it once more, at its end
        self._bearing = True
        try:
            newborn = fork_grandchild()
        except OSError as error:
            self._refuse(error)
            return False
        finally:
            self._bearing = False
        if newborn is None:
            _reseed()
            return True
        # The master has to know it before it can end.
        self._channel.send(Message.FORKED, str(newborn.pid))
        known_as.worker.pid = newborn.pid
        known_as.server.WORKERS[newborn.pid] = known_as.worker
        newborn.release()
        return False

    def _refuse(self, error: OSError) -> None:
        self._channel.send(Message.UNFORKED, error.strerror or str(error))


def _reseed() -> None:
    """Let random numbers differ from those of the other workers.

    ``random`` seeds itself anew in each forked child (a hook of its own), OpenSSL does, and
    ``secrets`` and ``uuid.uuid4`` ask the kernel each time. The global state of numpy.random, and
    generators that the application has made itself, are copied as they are.
    """
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
