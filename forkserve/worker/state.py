"""What a connection can be waited for: an enum, and a table of data. Every rule about waiting
that does not depend on more than the state stands here."""

import select
from dataclasses import dataclass
from enum import Enum

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
UNCHANGED = 0


class State(Enum):
    """What a connection is waited for."""

    PROXY = "the PROXY header of the proxy in front"
    HANDSHAKE = "the client's part of the TLS handshake"
    HANDSHAKE_FLUSH = "the client to take our part of the TLS handshake"
    HEAD = "the head of a request; a new connection starts here"
    BODY = "the body, which is collected before the call"
    READY = "its turn: octets of its next request are in hand, and others are served in between"
    RUNNING = "the application"
    FLUSH = "the client to take the rest of the response"
    IDLE = "the next request"
    DRAIN = "the rest of a body that the application did not read"
    LINGER = "the client to close, after a response that it must be able to read"
    CLOSED = "nothing"


PLACES = {state: place for place, state in enumerate(State)}
"""Where on a tally the connections of a state are counted."""

FRESH = (State.PROXY, State.HANDSHAKE, State.HEAD)
"""In these a client may have said nothing yet; then it has nothing to lose."""


@dataclass(frozen=True, slots=True)
class Row:
    """``events`` to wait for. At the deadline: ``status`` is answered, if there is one and it can
    be said, else the connection is closed, ``abrupt`` (with a reset) or not."""

    events: int
    status: int | None = None
    abrupt: bool = False
    detail: str = "the request did not arrive in time"


ROWS = {
    # Nothing is answered: there is no request yet, and before the handshake no words for it.
    State.PROXY: Row(READABLE),
    State.HANDSHAKE: Row(READABLE),
    State.HANDSHAKE_FLUSH: Row(WRITABLE),
    State.HEAD: Row(READABLE, 408),
    State.BODY: Row(READABLE, 408),
    # Its turn comes before the loop waits again, or when there is a thread for it. Nothing is read
    # from it until then, which bounds what a client can send ahead.
    State.READY: Row(UNCHANGED, 503, detail="no thread was free in time"),
    State.RUNNING: Row(UNCHANGED),  # its deadline is on the scoreboard, and moves
    State.FLUSH: Row(WRITABLE, abrupt=True),
    State.IDLE: Row(READABLE),
    State.DRAIN: Row(READABLE),
    # Not abrupt: what the kernel still holds of the last response would be lost.
    State.LINGER: Row(READABLE),
    State.CLOSED: Row(UNCHANGED),
}
