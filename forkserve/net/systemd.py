"""The two environment protocols of systemd: sockets handed in, and notifications out.

Sources: sd_listen_fds(3), sd_notify(3). Both are a few lines of the environment; nothing here
needs systemd to be installed.
"""

import contextlib
import socket
from collections.abc import MutableMapping

from forkserve.net.address import FdAddress

_FIRST_FD = 3


def take_listen_fds(environ: MutableMapping[str, str], pid: int) -> list[FdAddress]:
    """The sockets that were handed to this process, [] if none. Removes the variables.

    They are removed so that no child of ours takes the sockets for its own.
    """
    for_pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if for_pid != str(pid) or not (count.isascii() and count.isdigit() and len(count) < 6):
        return []
    return [FdAddress(_FIRST_FD + index) for index in range(int(count))]


def take_watchdog(environ: MutableMapping[str, str], pid: int) -> str:
    """The microseconds within which this process is to be heard of, "" if nobody listens for that.

    Removes the variables (sd_watchdog_enabled(3)).
    """
    microseconds = environ.pop("WATCHDOG_USEC", "")
    for_pid = environ.pop("WATCHDOG_PID", str(pid))
    if for_pid != str(pid) or not (microseconds.isascii() and microseconds.isdigit()):
        return ""
    return microseconds if 0 < int(microseconds) < 2**63 else ""


class Notifier:
    """Tells the service manager what state the service is in, or nobody if nobody asked.

    ``path`` is that of NOTIFY_SOCKET; while ``muted``, nothing is said: the service manager listens
    to one process only.
    """

    def __init__(self, path: str) -> None:
        # A leading "@" stands for the NUL of the abstract name space.
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self.path = path
        self.muted = False

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> "Notifier":
        """Take NOTIFY_SOCKET, and remove it: the workers' code must not speak for the service."""
        return cls(environ.pop("NOTIFY_SOCKET", ""))

    def notify(self, *assignments: str) -> None:
        """Send lines like "READY=1". A service manager that does not listen is not an error."""
        if not self._path or self.muted:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        ):
            sock.setblocking(False)
            sock.sendto("\n".join(assignments).encode("utf-8", "backslashreplace"), self._path)
