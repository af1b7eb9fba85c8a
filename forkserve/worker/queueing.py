"""Requests that had to wait for a thread: whether there is still anybody for whom to serve them.

Asked only of those that waited, so that the others pay nothing.
"""

import select
import socket
import sys

WAITED = 0.01
"""Seconds in a queue, of whatever kind, that are worth a look."""

_HALF_CLOSED = 1.0
"""Seconds. Over TCP a client that is gone and one that has only closed its sending side look alike.
HTTP clients do the latter hardly ever (nginx takes it for gone at once); but somebody's ``printf |
nc`` is served if it had to wait for less than this."""

_GONE = select.POLLHUP | select.POLLERR  # both sides are closed, or the connection was reset


_LAST_DATA_RECV = 52
"""Where in struct tcp_info (linux/tcp.h) the milliseconds stand since data came last."""


def waited_in_kernel(sock: socket.socket) -> float:
    """Seconds since the last octets of a client came; 0.0 if nobody knows. Over TCP the kernel
    does, also of a connection that nobody had accepted yet."""
    try:
        octets = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECV + 4)
    except OSError:  # a unix socket
        return 0.0
    return int.from_bytes(octets[_LAST_DATA_RECV:], sys.byteorder) / 1000


def is_gone(sock: socket.socket, waited: float) -> bool:
    """The client, whose request has waited so many seconds, is gone. Does not block.

    What it has sent ahead does not hide it, nor does TLS: nothing is read.
    """
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    events = next((events for _, events in poll.poll(0)), 0)
    if events & _GONE:
        return True
    # Of a unix socket the kernel says above that both sides are closed, or else only one is.
    return (
        bool(events & select.POLLRDHUP) and waited >= _HALF_CLOSED and sock.family != socket.AF_UNIX
    )
