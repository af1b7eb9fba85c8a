"""How many clients wait at a listening unix socket, which only netlink tells: sock_diag(7).

One request about one socket, named by its inode; the kernel answers before the request returns.
"""

import os
import socket
import struct

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_SHOW_QUEUE = 0x10  # UDIAG_SHOW_RQLEN
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF  # of INET_DIAG_NOCOOKIE: the inode is enough
_QUEUE = 4  # UNIX_DIAG_RQLEN

_HEADER = struct.Struct("@IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_REQUEST = struct.Struct("@BBHIIIII")  # struct unix_diag_req
_ANSWER = struct.Struct("@BBBBIII")  # struct unix_diag_msg
_ATTRIBUTE = struct.Struct("@HH")  # struct nlattr: length, type; padded to 4 octets
_LENGTHS = struct.Struct("@II")  # struct unix_diag_rqlen: of a listener, waiting and backlog


def queue_at(fd: int) -> tuple[int, int] | None:
    """Of the listening unix socket ``fd``: the connections that nobody has accepted, and how many
    there may be. None if the kernel does not say."""
    try:
        inode = os.fstat(fd).st_ino
        size = _HEADER.size + _REQUEST.size
        question = _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + _REQUEST.pack(
            socket.AF_UNIX, 0, 0, _ANY_STATE, inode, _SHOW_QUEUE, _NO_COOKIE, _NO_COOKIE
        )
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as sock:
            sock.setblocking(False)
            sock.sendto(question, (0, 0))
            return _read(sock.recv(4096))
    except OSError:  # no such netlink, or a filter of system calls does not let us ask
        return None


def _read(octets: bytes) -> tuple[int, int] | None:
    """What an answer says."""
    if len(octets) < _HEADER.size:
        return None
    length, kind, *_ = _HEADER.unpack_from(octets)
    if kind != _SOCK_DIAG_BY_FAMILY:  # an error
        return None
    position = _HEADER.size + _ANSWER.size
    end = min(length, len(octets))
    while position + _ATTRIBUTE.size <= end:
        size, name = _ATTRIBUTE.unpack_from(octets, position)
        if name == _QUEUE and size >= _ATTRIBUTE.size + _LENGTHS.size:
            waiting, most = _LENGTHS.unpack_from(octets, position + _ATTRIBUTE.size)
            return int(waiting), int(most)
        position += max(4, (size + 3) & ~3)
    return None
