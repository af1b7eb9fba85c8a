"""Listening sockets: bind, adopt, close.

The master opens them before the first fork and the workers inherit them: one socket an address,
shared. (A socket of its own for each worker, by SO_REUSEPORT, would take its queue of waiting
clients with it whenever a worker leaves.)
"""

import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
from collections.abc import Collection, Iterable, Sequence

from forkserve.errors import ListenError
from forkserve.net.address import Address, FdAddress, InetAddress, UnixAddress
from forkserve.net.diag import queue_at

# Classic BPF (bpf(4), linux/filter.h) on the header of a TCP segment: one with SYN set is dropped,
# everything else accepted. What one asks for with SYN|ACK is for no listener either.
_NO_SYN = b"".join(
    struct.pack("@HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # ldb [13], the flags
        (0x45, 0, 1, 0x02),  # jset #SYN
        (0x06, 0, 0, 0),  # ret #0
        (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1
    )
)
_SO_ATTACH_FILTER = 26

# The beginning of struct tcp_info (linux/tcp.h), to tcpi_unacked and tcpi_sacked: of a listening
# socket these are the length of its queue, and the most of it.
_TCP_INFO = struct.Struct("@8x4x4x4x4xII")


class Listener:
    """One listening socket, non-blocking.

    ``address``  as configured
    ``name``     as a client would reach it: ("127.0.0.1", "8000") or ("/run/app.sock", "")
    ``shared``   another master, or the service manager, goes on using it when this one ends:
                 ``unlink`` and ``turn_away`` do nothing
    """

    def __init__(
        self, address: Address, sock: socket.socket, file: os.stat_result | None = None
    ) -> None:
        """``file``: the socket file that was made for it, and is to be removed with it."""
        self.address = address
        self.socket = sock
        self.family = sock.family
        self.name = _socket_name(sock)
        self._file = file
        self.shared = isinstance(address, FdAddress)

    def url_of(self, scheme: str) -> str:
        """How a person would reach it: "http://127.0.0.1:8000", "unix:/run/app.sock". Which scheme
        is spoken is no matter of the socket."""
        if self.family == socket.AF_UNIX:
            return f"unix:{self.name[0]}"
        host, port = self.name
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def is_reachable(self) -> bool:
        """Whether clients can still find it: somebody may have removed the file of a socket."""
        if self._file is None:
            return True
        try:
            found = os.lstat(self.name[0])
        except OSError:
            return False
        # The time too: the number of a removed file is soon given to another.
        same = found.st_mtime_ns == self._file.st_mtime_ns
        return same and os.path.samestat(found, self._file)

    def set_backlog(self, backlog: int) -> None:
        """Let so many connections wait from now on. An inherited socket is somebody else's."""
        if not isinstance(self.address, FdAddress):
            self.socket.listen(backlog)

    @property
    def has_file(self) -> bool:
        """Whether a file was made for it, which is to be removed with it."""
        return self._file is not None

    def turn_away(self) -> None:
        """Let nobody else connect, in any process: who has connected can be accepted to the end.

        The kernel resets what waits in the queue of a socket that is closed, and between the last
        accept and the close there is always time for one more. A client that is not heard tries
        again a second later, when it is refused.
        """
        if not self.shared and self.family != socket.AF_UNIX:
            code = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
            program = struct.pack("@HP", len(_NO_SYN) // 8, ctypes.addressof(code))
            # A kernel that has no filters: some may be reset, as without this.
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def queue(self) -> tuple[int, int]:
        """The connections that nobody has accepted yet, and how many there may be: less than was
        asked for if the kernel allows less, and anything for an inherited socket. 0 is what the
        kernel does not say."""
        if self.family == socket.AF_UNIX:
            return queue_at(self.socket.fileno()) or (0, 0)
        try:
            octets = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        except OSError:  # closed, or another protocol
            return 0, 0
        if len(octets) != _TCP_INFO.size:
            return 0, 0
        waiting, most = _TCP_INFO.unpack(octets)
        return int(waiting), int(most)

    def waiting(self) -> int:
        """The former alone."""
        return self.queue()[0]

    def close(self) -> None:
        """Close this process's descriptor. The socket lives on in the other processes."""
        self.socket.close()

    def unlink(self) -> None:
        """Remove the file of a unix socket, if it is still the one that we made."""
        if self._file is not None and not self.shared:
            with contextlib.suppress(OSError):
                if self.is_reachable():
                    os.unlink(self.name[0])
            self._file = None


def open_listeners(
    addresses: Sequence[Address],
    backlog: int,
    existing: Iterable[Listener] = (),
    setting: str | None = None,
) -> list[Listener]:
    """Listen on all ``addresses``; those of ``existing`` that match are taken over as they are.

    ``setting`` is the one that names them. Raises ListenError, with nothing left open that was not
    open before.
    """
    left = list(existing)
    opened: list[Listener] = []
    result: list[Listener] = []
    try:
        for address in addresses:
            listener = next(
                (item for item in left if item.address == address and item.is_reachable()), None
            )
            if listener is not None:
                left.remove(listener)
            else:
                listener = _open(address, backlog, addresses, [*left, *result])
                opened.append(listener)
            result.append(listener)
    except ListenError as error:
        for listener in opened:
            listener.unlink()
            listener.close()
        where = "" if setting is None else f" (`{setting}`)"
        raise ListenError(f"cannot listen on {address}{where}: {error}") from None
    return result


def adopt_listener(address: Address, fd: int, has_file: bool) -> Listener:
    """Take over a listener of the master before this one, at the same descriptor.

    ``has_file``: that of a unix socket will be ours. Until that master says so, the listener is
    shared. Raises ListenError.
    """
    try:
        listener = _adopt(FdAddress(fd))
    except ListenError as error:
        raise ListenError(f"cannot listen on {address}: {error}") from None
    file = None
    if has_file:
        with contextlib.suppress(OSError):
            file = os.lstat(listener.name[0])
    adopted = Listener(address, listener.socket, file)
    adopted.shared = True
    return adopted


def take_over(adopted: Iterable[Listener], used: Collection[Listener]) -> None:
    """They were shared with the master before this one; from now on their files are ours, and go
    with us. Those that are not ``used`` go at once."""
    for listener in adopted:
        listener.shared = isinstance(listener.address, FdAddress)
        if listener not in used:
            listener.unlink()
            listener.close()


def clipped_backlog(backlog: int) -> int | None:
    """What the kernel makes of ``backlog`` if that is less, else None (listen(2), somaxconn)."""
    try:
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
            limit = int(file.read())
    except (OSError, ValueError):
        return None
    return limit if limit < backlog else None


def _open(
    address: Address, backlog: int, siblings: Sequence[Address], ours: Sequence[Listener]
) -> Listener:
    try:
        if isinstance(address, FdAddress):
            return _adopt(address)
        if isinstance(address, UnixAddress):
            return _bind_unix(address, backlog)
        return _bind_inet(address, backlog, siblings)
    except (OSError, ValueError) as error:  # ValueError: a host name that cannot be encoded
        why = _explain(address, error)
        if getattr(error, "errno", None) == errno.EADDRINUSE and _is_held_by(ours, address):
            why = _HELD_BY_US
        raise ListenError(why) from None


def _adopt(address: FdAddress) -> Listener:
    """Take over a listening socket that somebody else made, and stays the owner of."""
    try:
        if not stat.S_ISSOCK(os.fstat(address.fd).st_mode):
            raise ListenError("the descriptor is not a socket. fd://N is for one that listens")
    except OSError:
        raise ListenError(
            "no such descriptor was handed to this process. Who starts it must leave it open"
        ) from None
    sock = socket.socket(fileno=address.fd)
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ListenError("the socket is not listening. Who made it must call listen(2)")
    sock.set_inheritable(False)
    return Listener(address, _prepare(sock))


def _bind_inet(address: InetAddress, backlog: int, siblings: Sequence[Address]) -> Listener:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # A name can stand for both families. IPv4 first: it is what the other servers listen on.
    family, kind, protocol, _, where = min(found, key=lambda item: item[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and any(
            isinstance(other, InetAddress)
            and other.port == address.port
            and other.family == socket.AF_INET
            for other in siblings
        ):
            # "[::]:80" takes IPv4 too, unless an address of ours is there for that.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return Listener(address, _prepare(sock))


def _bind_unix(address: UnixAddress, backlog: int) -> Listener:
    _clear_path(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The file is born with its mode. A chmod afterwards would follow a link, if somebody put one
    # into its place.
    umask = os.umask(0o777 & ~address.mode)
    try:
        sock.bind(address.path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(umask)
    listener = Listener(address, sock, os.lstat(address.path))
    try:
        if (address.uid, address.gid) != (-1, -1):
            os.chown(address.path, address.uid, address.gid, follow_symlinks=False)
        sock.listen(backlog)
    except OSError:
        listener.unlink()
        listener.close()
        raise
    _prepare(sock)
    return listener


def _clear_path(address: UnixAddress) -> None:
    """Remove a socket file that nobody listens on any more. Raises ListenError for all else."""
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(
            "the path is taken by something that is not a socket, and it is left alone. Remove it, "
            "or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        number = probe.connect_ex(address.path)
    if number in (0, errno.EAGAIN):
        raise OSError(errno.EADDRINUSE, "in use")
    if number != errno.ECONNREFUSED:
        raise ListenError(
            "whether another server is listening there cannot be told "
            f"({os.strerror(number)}). Remove the file if none is"
        )
    os.unlink(address.path)


def _prepare(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        # Inherited by each accepted connection: a block leaves when it is written.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _socket_name(sock: socket.socket) -> tuple[str, str]:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return (os.fsdecode(name), "")
    return (str(name[0]), str(name[1]))


_HELD_BY_US = (
    "this server itself listens there, under another address or with other options. "
    "Such a change needs a stop and a start"
)


def _is_held_by(listeners: Sequence[Listener], address: Address) -> bool:
    """Whether one of ``listeners`` is what stands in the way of ``address``."""
    if isinstance(address, UnixAddress):
        return any(item.name == (address.path, "") for item in listeners)
    port = str(address.port) if isinstance(address, InetAddress) else ""
    return any(item.name[1] == port for item in listeners if port)


def _explain(address: Address, error: OSError | ValueError) -> str:
    """Why the kernel refused, and what to do."""
    if not isinstance(error, OSError):
        what = "path" if isinstance(address, UnixAddress) else "host name"
        return f"the {what} is malformed"
    if isinstance(address, UnixAddress) and error.errno is None:  # Python says so, not the kernel
        return "the path of a unix socket can have 107 octets: choose a shorter one"
    if error.errno == errno.EADDRINUSE:
        return (
            "another program is listening there. Stop it (`ss -lntxp` shows which one it is), or "
            "choose another address"
        )
    if error.errno == errno.EACCES and isinstance(address, InetAddress):
        return (
            "ports below 1024 need root or CAP_NET_BIND_SERVICE. Choose a higher port, or let "
            "systemd open the socket (systemd/forkserve.socket)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            "no interface of this machine has this address (`ip address` shows those that there "
            "are). :PORT listens on all of them"
        )
    if error.errno == errno.EAFNOSUPPORT:
        return "this machine has no IPv6. Choose an address of IPv4"
    if isinstance(error, socket.gaierror):
        return (
            f"the host name cannot be resolved ({error.strerror}). It must be one of this machine; "
            ":PORT listens on all its addresses"
        )
    if error.errno in (errno.ENOENT, errno.EACCES, errno.EROFS, errno.EPERM):
        return (
            f"{error.strerror}. The directory must exist, and user {os.geteuid()}, who starts it, "
            "must be able to write it"
        )
    return error.strerror or str(error)
