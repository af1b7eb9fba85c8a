"""The channel between the master and one worker, a template process, or the master that succeeds
it: a SOCK_SEQPACKET pair of typed messages.

Made by the master before the fork; each side keeps one end. The kernel keeps messages apart, and
tells each side when the other is gone.
"""

import contextlib
import socket
from enum import Enum

LARGEST = 65536
"""Octets of a message; a traceback that is longer is cut."""


class Message(Enum):
    """What is said on a channel. FAILED, DUE and STUCK carry a text, READY of a new master and
    of who reads the settings, and so do the last four."""

    # worker to master
    READY = b"ready"  # the application is loaded, connections are accepted
    FAILED = b"failed"  # the application cannot be loaded; the text says why
    DUE = b"due"  # this worker has served as many requests as it may; the text is their number
    BUSY = b"busy"  # a request has come; at most once a second, and only if somebody asks
    LEAVING = b"leaving"  # it was signalled to end, and finishes its requests
    STUCK = b"stuck"  # a call is given up, and holds its thread for ever; the text is its request
    # master to worker
    RETIRE = b"retire"  # stop accepting, others do it; finish what was begun; leave
    STOP = b"stop"  # like RETIRE, but nobody else accepts: serve what is queued in the kernel too
    QUIT = b"quit"  # leave now
    REOPEN = b"reopen"  # open the log files anew
    PING = b"ping"  # say that you are there. Answered alike
    STACKS = b"stacks"  # write your stacks; the first brings the file for them. Answered alike
    LOOK = b"look"  # a worker has died: perhaps it was the one that was woken for a newcomer
    # old master to new, beside RETIRE, STOP and QUIT; the new one says READY, FAILED, STOP and QUIT
    YOURS = b"yours"  # the service is yours: the pid file, and to speak for it
    # master to template process, which also says READY and FAILED, and hears REOPEN
    FORK = b"fork"  # fork a worker, "SLOT ROW"; its end of its channel comes with the message
    # template process to master
    FORKED = b"forked"  # the text is the worker's pid
    UNFORKED = b"unforked"  # the text says why
    # watcher of files to master; it also says READY and FAILED
    CHANGED = b"changed"  # files of the application have; the text says which


def pack(message: Message, text: str = "") -> bytes:
    """As it travels."""
    return (message.value + b"\0" + text.encode("utf-8", "replace"))[:LARGEST]


def unpack(octets: bytes) -> tuple[Message, str]:
    """The opposite. Raises ValueError for a word that is not known."""
    word, _, text = octets.partition(b"\0")
    return Message(word), text.decode("utf-8", "replace")


class Channel:
    """One end of a channel, non-blocking, close-on-exec.

    ``unsent``: the other side has not read what was said before, so this is still to be said.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        self.unsent: list[bytes] = []

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Two ends that are each other's."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ends[0]), cls(ends[1])

    @classmethod
    def of(cls, fd: int) -> "Channel":
        """The end that came as a descriptor."""
        return cls(socket.socket(fileno=fd))

    @property
    def sock(self) -> socket.socket:
        """For messages that carry a descriptor."""
        return self._socket

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, text: str = "") -> None:
        """Say something. If the other side does not listen, it is kept in ``unsent``, once.

        That the other side is gone is not an error: EOF tells.
        """
        octets = pack(message, text)
        if octets not in self.unsent:
            self.unsent.append(octets)
        self.flush()

    def flush(self) -> None:
        """Say what is unsent, as far as the other side listens. Does not block."""
        while self.unsent:
            try:
                self._socket.send(self.unsent[0])
            except BlockingIOError:
                return
            except OSError:
                self.unsent.clear()
                return
            del self.unsent[0]

    def receive(self) -> list[tuple[Message, str]] | None:
        """The messages that are there; None once the other side is gone. Does not block."""
        messages: list[tuple[Message, str]] = []
        while True:
            try:
                octets = self._socket.recv(LARGEST)
            except BlockingIOError:
                return messages
            except ConnectionResetError:
                # The other side has ended without reading all of ours. This is said once, before
                # its own last words.
                continue
            except OSError:
                octets = b""
            if not octets:
                return messages or None
            with contextlib.suppress(ValueError):  # a word of a later version
                messages.append(unpack(octets))

    def close(self) -> None:
        self._socket.close()
