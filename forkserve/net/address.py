"""The addresses that a server can listen on, as people write them.

127.0.0.1:8000   localhost:8000   :8000   [::1]:8000   [::]:8000
unix:/run/app.sock   unix:/run/app.sock,mode=660,user=www-data,group=www-data
fd://3
"""

import grp
import os
import pwd
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

_HOST_PORT = re.compile(r"(?:\[([^\]]*)\]|([^\[\]:]*)):([0-9]{1,5})")
_SOCKET_MODE = 0o666


@dataclass(frozen=True, slots=True)
class InetAddress:
    """A host (name or number, "" for every IPv4 address of the machine) and a port (0: any)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A path in the file system, and who may connect to it.

    ``mode`` is that of the socket file; ``uid`` and ``gid`` its owners, -1 for the process's own.
    The default lets every local user connect, as every local user can to a TCP port.
    """

    path: str
    mode: int = _SOCKET_MODE
    uid: int = -1
    gid: int = -1

    def __str__(self) -> str:
        options = f",mode={self.mode:03o}" if self.mode != _SOCKET_MODE else ""
        options += f",user={self.uid}" if self.uid != -1 else ""
        options += f",group={self.gid}" if self.gid != -1 else ""
        return f"unix:{self.path}{options}"


@dataclass(frozen=True, slots=True)
class FdAddress:
    """A listening socket that this process was started with."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


Address = InetAddress | UnixAddress | FdAddress


def parse_address(text: str) -> Address:
    """Parse one address. Raises ValueError, whose text continues what was written: "is no..."."""
    if text.startswith("unix:"):
        return _parse_unix(text.removeprefix("unix:"))
    if text.startswith("fd://"):
        fd = text.removeprefix("fd://")
        if not (fd.isascii() and fd.isdigit() and len(fd) < 8):
            raise ValueError("is not like fd://3")
        return FdAddress(int(fd))
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise ValueError("is no address: write host:port, :port, [ipv6]:port, unix:/path or fd://N")
    ipv6, host, digits = match.groups()
    port = int(digits)
    if port > 65535:
        raise ValueError("has a port above 65535")
    if ipv6 is not None:
        try:
            socket.inet_pton(socket.AF_INET6, ipv6.partition("%")[0])
        except OSError:
            raise ValueError("has no IPv6 address in its brackets") from None
        return InetAddress(ipv6, port)
    return InetAddress(host or "0.0.0.0", port)


def _parse_unix(text: str) -> UnixAddress:
    """Parse what stands behind "unix:"."""
    path, *options = text.split(",")
    if not path.startswith("/"):
        raise ValueError("needs an absolute path, like unix:/run/app.sock")
    if len(os.fsencode(path)) > 107:
        raise ValueError(
            f"has a path of {len(os.fsencode(path))} octets, and a unix socket can have "
            "107 octets: choose a shorter one, like unix:/run/app.sock"
        )
    mode, uid, gid = _SOCKET_MODE, -1, -1
    for option in options:
        key, _, value = option.partition("=")
        if key == "mode" and re.fullmatch("0?[0-7]{3}", value):
            mode = int(value, 8)
        elif key == "user":
            uid = _look_up(user_id, value, option)
        elif key == "group":
            gid = _look_up(group_id, value, option)
        else:
            raise ValueError(f"has {option!r} where mode=660, user=NAME or group=NAME can stand")
    return UnixAddress(path, mode, uid, gid)


def _bounded_id(digits: str) -> int:
    # The largest number stands for "unchanged" in chown(2) and setresuid(2).
    if len(digits) > 10 or int(digits) >= 2**32 - 1:
        raise ValueError("is too large a number for a user or a group")
    return int(digits)


def _look_up(look_up: Callable[[str], int], name: str, option: str) -> int:
    try:
        return look_up(name)
    except ValueError as error:
        raise ValueError(f"has {option!r}: {name!r} {error}") from None


def user_id(name: str) -> int:
    """The uid of a user name or number. Raises ValueError."""
    if name.isascii() and name.isdigit():
        return _bounded_id(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ValueError(
            "is no user of this machine (`getent passwd` shows them); a number is taken as it is"
        ) from None


def group_id(name: str) -> int:
    """The gid of a group name or number. Raises ValueError."""
    if name.isascii() and name.isdigit():
        return _bounded_id(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(
            "is no group of this machine (`getent group` shows them); a number is taken as it is"
        ) from None
