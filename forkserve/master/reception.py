"""The sockets of those who give commands to the master: nothing that they do makes it wait.

Every read and write is non-blocking, and a turn of the loop is short: a few callers are accepted,
and each that is ready gets one read or one write. The number of callers, the octets of a command
and of an answer, and the time for each are bounded; who is past a bound is told so and cut off.

    COMMAND ──a whole line──> WAIT ──answered──> ANSWER ──all taken──> closed
       │ 10 s: told so          │                   │ 10 s without taking any: cut off
       └──────> ANSWER          └ (an answer may take as long as what was asked for)

An epoll of its own holds them all, so that the master waits for one descriptor.
"""

import contextlib
import os
import select
import socket
import struct
from enum import Enum

from forkserve.net.listeners import Listener
from forkserve.ops.control import (
    LARGEST_COMMAND,
    Command,
    CommandError,
    parse_command,
    refusal,
    write_answer,
)

MOST_CALLERS = 16
"""Callers at once. One that comes then is told so, and closed."""

COMMAND_TIMEOUT = 10.0
"""Seconds to send the whole of a command."""

ANSWER_TIMEOUT = 10.0
"""Seconds in which some of the answer must be taken."""

_ACCEPTS = 16  # in one turn
_REST = 1.0  # seconds without accepting, when there is no descriptor for it
_SEND = 1 << 16  # octets in one turn
_NEVER = float("inf")
_CREDENTIALS = struct.Struct("@iII")  # struct ucred of unix(7): pid, uid, gid


class Stage(Enum):
    COMMAND = "the command is read"
    WAIT = "what was asked for is done"
    ANSWER = "the answer is sent"
    CLOSED = "it is over"


class Caller:
    """One connection. ``stays``: it is closed by the end of this process, and not by the answer."""

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.socket = sock
        self.stage = Stage.COMMAND
        self.deadline = now + COMMAND_TIMEOUT
        self.received = bytearray()
        self.unsent = memoryview(b"")
        self.stays = False

    @property
    def gone(self) -> bool:
        """Whether nobody waits for an answer."""
        return self.stage is Stage.CLOSED


class Reception:
    """Used by the master's only thread. ``due``: when ``look`` must be called at the latest."""

    def __init__(self) -> None:
        self.due = _NEVER
        self._epoll = select.epoll()
        self._listener: Listener | None = None
        self._rests_until = _NEVER  # when it accepts again
        self._callers: dict[int, Caller] = {}  # by descriptor
        self._allowed = {0, os.geteuid()}

    def fileno(self) -> int:
        """What becomes readable when ``look`` has something to do."""
        return self._epoll.fileno()

    def open(self, listener: Listener) -> None:
        """Accept from now on."""
        self._listener = listener
        self._epoll.register(listener.socket.fileno(), select.EPOLLIN)

    def leave(self) -> None:
        """Accept no more; who is there already gets an answer."""
        if self._listener is not None:
            if self._rests_until == _NEVER:
                self._epoll.unregister(self._listener.socket.fileno())
            self._listener, self._rests_until = None, _NEVER

    def dismiss(self, answer: dict[str, object], now: float) -> None:
        """Answer all who still wait, or have not said what they want; this process ends."""
        for caller in list(self._callers.values()):
            self.answer(caller, answer, now)

    def close(self) -> None:
        """Close all connections, and answer nobody. In a forked child, too."""
        for caller in list(self._callers.values()):
            caller.stage = Stage.CLOSED
            caller.socket.close()
        self._callers.clear()
        self._epoll.close()

    # ---- one turn

    def look(self, now: float) -> list[tuple[Caller, Command]]:
        """Do what can be done without waiting. Returns the commands that are complete; each is to
        be answered, now or later."""
        commands: list[tuple[Caller, Command]] = []
        if now >= self._rests_until and self._listener is not None:
            self._rests_until = _NEVER
            self._epoll.register(self._listener.socket.fileno(), select.EPOLLIN)
        for fd, events in self._epoll.poll(0, 2 * MOST_CALLERS):
            caller = self._callers.get(fd)
            if caller is None:
                self._accept(now)
            elif caller.stage is Stage.COMMAND:
                command = self._receive(caller, now)
                if command is not None:
                    commands.append((caller, command))
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                self._drop(caller)
            elif caller.stage is Stage.ANSWER:
                self._send(caller, now)
        for caller in list(self._callers.values()):
            if caller.deadline <= now:
                self._expire(caller, now)
        self.due = min((caller.deadline for caller in self._callers.values()), default=_NEVER)
        self.due = min(self.due, self._rests_until)
        return commands

    def _accept(self, now: float) -> None:
        for _ in range(_ACCEPTS):
            if self._listener is None:
                return
            try:
                sock, _address = self._listener.socket.accept()
            except BlockingIOError:
                return
            except OSError:
                # No descriptor is left, and the kernel would say so again and again.
                self._epoll.unregister(self._listener.socket.fileno())
                self._rests_until = now + _REST
                return
            self._welcome(sock, now)

    def _welcome(self, sock: socket.socket, now: float) -> None:
        sock.setblocking(False)
        caller = Caller(sock, now)
        uid = _uid_of(sock)
        if uid not in self._allowed:
            _turn_away(sock, f"user {uid} may not control this server; root and its own user may")
        elif len(self._callers) >= MOST_CALLERS:
            text = f"{MOST_CALLERS} commands are under way already. Try again when one has ended"
            _turn_away(sock, text)
        else:
            self._callers[sock.fileno()] = caller
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _receive(self, caller: Caller, now: float) -> Command | None:
        try:
            octets = caller.socket.recv(LARGEST_COMMAND + 1 - len(caller.received))
        except BlockingIOError:
            return None
        except OSError:
            octets = b""
        caller.received += octets
        line, end, rest = caller.received.partition(b"\n")
        if not end and len(caller.received) <= LARGEST_COMMAND:
            if not octets:
                self._drop(caller)  # half a command, and no more will come
            return None
        try:
            if len(caller.received) > LARGEST_COMMAND:
                raise CommandError(f"a command has at most {LARGEST_COMMAND} octets")
            if rest:
                raise CommandError("a connection is for one command")
            command = parse_command(bytes(line))
        except CommandError as error:
            self.answer(caller, refusal(str(error)), now)
            return None
        caller.stage, caller.deadline = Stage.WAIT, _NEVER
        self._epoll.modify(caller.socket.fileno(), 0)  # the kernel tells of a hang-up all the same
        return command

    def _expire(self, caller: Caller, now: float) -> None:
        if caller.stage is Stage.COMMAND:
            text = f"no whole command came within {COMMAND_TIMEOUT:g} s"
            self.answer(caller, refusal(text), now)
        else:
            self._drop(caller)

    # ---- answers

    def answer(self, caller: Caller, answer: dict[str, object], now: float) -> None:
        """Send it, as far as the caller reads; the rest follows."""
        if caller.stage in (Stage.COMMAND, Stage.WAIT):
            caller.unsent = memoryview(write_answer(answer))
            caller.stage, caller.deadline = Stage.ANSWER, now + ANSWER_TIMEOUT
            self.due = min(self.due, caller.deadline)
            self._epoll.modify(caller.socket.fileno(), select.EPOLLOUT)
            self._send(caller, now)

    def _send(self, caller: Caller, now: float) -> None:
        try:
            count = caller.socket.send(caller.unsent[:_SEND])
        except BlockingIOError:
            return
        except OSError:
            self._drop(caller)
            return
        caller.unsent = caller.unsent[count:]
        caller.deadline = now + ANSWER_TIMEOUT
        if caller.unsent:
            return
        if caller.stays:
            caller.deadline = _NEVER
            self._epoll.modify(caller.socket.fileno(), 0)
        else:
            self._drop(caller)

    def _drop(self, caller: Caller) -> None:
        if caller.stage is not Stage.CLOSED:
            caller.stage = Stage.CLOSED
            del self._callers[caller.socket.fileno()]
            caller.socket.close()  # which takes it out of the epoll, too


def _uid_of(sock: socket.socket) -> int:
    """The user that has connected, as the kernel noted it then (SO_PEERCRED of unix(7))."""
    octets = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(octets)[1])


def _turn_away(sock: socket.socket, why: str) -> None:
    """A new connection has room for a line. Its command may already be there, unread: then its
    ``send`` fails, and what it can read is this."""
    with contextlib.suppress(OSError):
        sock.send(write_answer(refusal(why)))
    sock.close()
