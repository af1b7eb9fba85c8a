"""Signals that only enqueue: no handler does any work (signal-safety(7), unicorn's habit).

A ``SignalQueue`` notes what came, and wakes an epoll loop through a descriptor. What the kernel
merges (two HUPs before one was seen) stays merged; nothing else is lost, because the notes, not the
bytes in the pipe, are what counts.
"""

import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""Those that end the server."""

FOR_MASTER = (
    *ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGWINCH,
)  # fmt: skip
"""All that people mean it by: its children get them too if a whole process group, or a cgroup, is
signalled."""


class SignalQueue:
    """The signals that came to this process, in order. Used by the main thread only."""

    def __init__(self) -> None:
        self._pending: deque[signal.Signals] = deque()
        self._wakeup, self._awake = socket.socketpair()
        self._wakeup.setblocking(False)
        self._awake.setblocking(False)

    def fileno(self) -> int:
        """The descriptor that becomes readable when a signal came."""
        return self._wakeup.fileno()

    def listen(self, signals: Iterable[signal.Signals]) -> None:
        """From now on, queue these."""
        signal.set_wakeup_fd(self._awake.fileno(), warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._pending.append(signal.Signals(number))

    def take(self) -> Iterator[signal.Signals]:
        """The signals since the last call. Does not block."""
        try:
            while len(self._wakeup.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        while self._pending:
            yield self._pending.popleft()

    def heard(self) -> list[signal.Signals]:
        """The signals since the last call, each once. For any thread: of those that the main thread
        has not noted yet, because it is in C code that returns late, the pipe tells. (They come
        again when it has.) Does not block."""
        octets = bytearray()
        with contextlib.suppress(BlockingIOError):
            while more := self._wakeup.recv(4096):
                octets += more
        numbers = [signal.Signals(number) for number in octets if number]
        while self._pending:
            numbers.append(self._pending.popleft())
        return list(dict.fromkeys(numbers))

    def close(self) -> None:
        """Stop being woken. For a child of the process that listens."""
        signal.set_wakeup_fd(-1)
        self._wakeup.close()
        self._awake.close()


def meant(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those that are meant for a server: in a terminal WINCH says that somebody resizes the window,
    and no more."""
    terminal = any(os.isatty(fd) for fd in range(3))
    return [number for number in numbers if not (terminal and number == signal.SIGWINCH)]


def raise_at_ctrl_c() -> None:
    """From now on SIGINT is a KeyboardInterrupt, unless it is ignored: there is something to be
    tidied up. (Before, it ends the process: see ``forkserve/__main__.py``.)"""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def blocked() -> Iterator[None]:
    """Hold back every signal for as long as the block runs, in it and in children forked in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Whatever handlers the block sets, those of before are in place behind it. For the main
    thread; a handler that was not set by Python cannot be put back."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def unblock_all() -> None:
    """For a child that was forked in a ``blocked`` block, once its own handlers are in place."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reset(signals: Iterable[signal.Signals]) -> None:
    """Give these back their default action."""
    for number in signals:
        signal.signal(number, signal.SIG_DFL)


def default_in_children(signals: Iterable[signal.Signals]) -> None:
    """In children that are forked from now on, by whomever, these have their default action.

    They are blocked around the fork: one that came to a child before it was so would be taken by a
    handler that is not its own, and be lost.
    """
    numbers = tuple(signals)
    masks: list[set[int | signal.Signals]] = []

    def before() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, numbers))

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    def in_child() -> None:
        reset(numbers)
        in_parent()

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def describe_status(status: int) -> str:
    """A wait status in words: "exit status 3", "SIGKILL"."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
