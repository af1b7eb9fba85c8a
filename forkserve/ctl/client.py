"""From ``forkservectl`` to the master: finds the control socket, and brings back an answer.

Blocks, for as long as what was asked for takes. Owns no state of the server.
"""

import contextlib
import json
import os
import socket
import stat
from collections.abc import Mapping
from typing import Any

from forkserve.ops.control import LARGEST_ANSWER, beside, usual_places, write_command
from forkserve.settings.control import AUTO
from forkserve.settings.kinds import NONE

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_NO_SERVER = 3

VARIABLE = "FORKSERVE_CONTROL_SOCKET"

_PATIENCE = 10.0  # seconds in which a master that runs has answered what it can answer at once

# Answered when the outcome is known, which can take as long as an application takes to load.
_LONG = frozenset(("reload", "upgrade", "retire"))


class NoServer(Exception):
    """No master answers. The text says where, and what to do."""


class Refused(Exception):
    """The master did not do it. ``answer``: all that it said."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer.get("error", "it did not say why"))
        self.answer = answer


def find_socket(given: str | None, pid_file: str | None, environ: Mapping[str, str]) -> str:
    """The path of the control socket. Raises NoServer."""
    if given == NONE:
        raise NoServer("control_socket is none, so the server has no control socket")
    if given not in (None, AUTO):
        return given
    if pid_file is not None:
        return beside(pid_file)
    places = list(usual_places(environ))
    for path in places:
        if os.path.exists(path):
            return path
    looked = ", ".join(places) or "no directory that it could be in can be written by this user"
    raise NoServer(
        f"there is no control socket ({looked}). Name it with --socket PATH, or the server's pid "
        "file with --pid-file FILE"
    )


class Server:
    """A server, by the path of its control socket. ``patience``: with a master that is silent."""

    def __init__(self, path: str, patience: float = _PATIENCE) -> None:
        self.path = path
        self._patience = patience

    def ask(self, command: str, *, to_the_end: bool = False, **members: Any) -> dict[str, Any]:
        """What the master answers to a command. Raises NoServer, Refused.

        ``to_the_end``: return only when the server has ended.
        """
        try:
            return self._ask(command, to_the_end, members)
        except Refused as error:
            if not error.answer.get("again"):  # else an upgrade came in between
                raise
            return self._ask(command, to_the_end, members)

    def _ask(self, command: str, to_the_end: bool, members: dict[str, Any]) -> dict[str, Any]:
        if command != "status":
            # One that is stopped would do it when it goes on, when nobody wants it any more.
            self._ask("status", False, {})
        with self._connect() as sock:
            with contextlib.suppress(OSError):  # turned away: what there is to read says why
                sock.sendall(write_command(command, **members))
            if command in _LONG:
                sock.settimeout(None)
            return self._answer(sock, to_the_end)

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self._patience)
        try:
            sock.connect(self.path)
        except OSError as error:
            sock.close()
            raise NoServer(_why_not(self.path, error)) from None
        return sock

    def _answer(self, sock: socket.socket, to_the_end: bool) -> dict[str, Any]:
        octets = bytearray()
        while not octets.endswith(b"\n") and len(octets) <= LARGEST_ANSWER:
            try:
                more = sock.recv(1 << 16)
            except TimeoutError:
                raise NoServer(_silent(self.path)) from None
            except OSError:
                more = b""
            if not more:
                break
            octets += more
        if not octets or (octets.startswith(b"{") and not octets.endswith(b"\n")):
            raise NoServer("the server ended before it answered; its error log says why")
        answer = _understood(bytes(octets), self.path)
        if not answer.get("ok"):
            raise Refused(answer)
        sock.settimeout(None)
        with contextlib.suppress(OSError):  # which is an end, too
            while to_the_end and sock.recv(1 << 16):
                pass
        return answer


def _understood(octets: bytes, path: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        answer = json.loads(octets)
        if isinstance(answer, dict):
            return answer
    raise NoServer(
        f"{path} is no control socket of forkserve: what listens there speaks otherwise. It is "
        "named by `control_socket`, or beside the pid file; `bind` is for clients"
    )


def _why_not(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no control socket {path}. Is the server running, with that path?"
    if isinstance(error, ConnectionRefusedError) and not _is_socket(path):
        return f"{path} is no socket. The control socket is named by `control_socket`"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens on {path}: the server that made it has died"
    if isinstance(error, PermissionError):
        return f"{path}: only root and the user of the server may control it"
    if isinstance(error, BlockingIOError | TimeoutError):
        return _silent(path)
    return f"{path}: {error.strerror or error}"


def _is_socket(path: str) -> bool:
    """True too if it cannot be told."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True


def _silent(path: str) -> str:
    return (
        f"{path}: the master does not answer, and nothing was done. Is it stopped (ps shows a T; "
        "kill -CONT lets it go on), or in a hook that takes long?"
    )
