"""What comes before the first request of a connection: the PROXY header, then the TLS handshake.

    PROXY ─> HANDSHAKE ─> HEAD ─> ...    either may be left out; from HEAD on it is a Connection
                 └─> HANDSHAKE_FLUSH     like any other

Both are driven by the loop, each under its deadline, so that a silent client costs a descriptor.
A worker that needs neither makes plain Connections, and nothing here is run.
"""

import contextlib
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from forkserve.http.errors import ProtocolError
from forkserve.http.proxy_protocol import LONGEST, parse_proxy_header
from forkserve.net.peers import trust_in
from forkserve.settings import Settings
from forkserve.worker.connection import Connection
from forkserve.worker.service import Service
from forkserve.worker.state import READABLE, State
from forkserve.wsgi.call import Environ

if TYPE_CHECKING:
    import ssl

    from forkserve.net.tls import TlsSocket

Connect = Callable[[Service, socket.socket, Environ, tuple[str, str], float], Connection]
"""Makes a connection of an accepted socket. Raises OSError if that is gone already."""

# States in which no response is under way: here the end can be announced, and that is true.
_BETWEEN = (State.HEAD, State.BODY, State.IDLE, State.DRAIN)

# What comes before the handshake is not encrypted, and must be left for it to the last octet.
_recv_plain = socket.socket.recv

# A client that took the port for one of plain HTTP, in the words of OpenSSL.
_PLAIN_HTTP = ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST")


def connector(settings: Settings, context: "ssl.SSLContext | None") -> Connect:
    """How the connections of a worker are made. ``context``: None for plain HTTP."""
    proxies = trust_in(settings.proxy_allow_from) if settings.proxy_protocol == "on" else None
    if proxies is None and context is None:
        return Connection
    encrypt = None
    if context is not None:
        from forkserve.net.tls import TlsSocket  # ssl takes a while, for those who use it

        encrypt = partial(TlsSocket, context)
    return partial(PrefacedConnection, proxies=proxies, encrypt=encrypt)


class PrefacedConnection(Connection):
    """A connection that may begin with a PROXY header, and with a TLS handshake."""

    __slots__ = ("_tls",)

    def __init__(
        self,
        service: Service,
        sock: socket.socket,
        base: Environ,
        remote: tuple[str, str],
        now: float,
        *,
        proxies: Callable[[str], bool] | None,
        encrypt: "Callable[[socket.socket], TlsSocket] | None",
    ) -> None:
        """``proxies`` says of an address whether a PROXY header comes from it; None: from nobody.

        ``encrypt``: puts TLS on a socket; None: plain HTTP.
        """
        tls = None if encrypt is None else encrypt(sock)
        super().__init__(service, tls or sock, base, remote, now)
        self._tls = tls
        if proxies is not None and proxies(remote[0]):
            self.state = State.PROXY
        elif tls is not None:
            self._begin_handshake(now)

    # ---- called by the loop

    def readable(self, now: float) -> None:
        """There is something to read, or to do in the handshake; or an end, or an error."""
        if self.state is State.PROXY:
            self._receive_proxy_header(now)
        elif self.state is State.HANDSHAKE or self.state is State.HANDSHAKE_FLUSH:
            self._shake_hands(now)
        else:
            super().readable(now)

    def writable(self, now: float) -> None:
        """The client takes more of the response, or there is room to say that this was all."""
        if self.exchange is None:
            self._linger(now)
        else:
            super().writable(now)

    def close(self) -> None:
        """Nothing more is to be done. A client of TLS is told, if no response is cut by it."""
        if self._tls is not None and self.state in _BETWEEN and self.unsent is None:
            with contextlib.suppress(OSError):
                self._tls.say_end()
        super().close()

    # ---- the PROXY header

    def _receive_proxy_header(self, now: float) -> None:
        """Take the PROXY header, and not an octet more. It is looked for only here, once."""
        held = self.buffer
        try:
            octets = _recv_plain(self.socket, LONGEST, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self.close()  # a proxy that looks whether somebody listens, for one
            return
        try:
            header = parse_proxy_header(held + octets)
        except ProtocolError as error:
            self.buffer = held + octets  # for the access log
            self.service.tell_once(
                "%s is in `proxy_allow_from`, and %s: it gets a 400. If it is your proxy, "
                "tell it to send one (HAProxy: send-proxy), or leave `proxy_protocol` off",
                self.remote[0] or "the unix socket", error.detail,
            )  # fmt: skip
            self._refuse_plainly(error, now)
            return
        wanted = len(octets) if header is None else header.end - len(held)
        taken = _recv_plain(self.socket, wanted)
        if header is None or len(taken) < wanted:
            self.buffer = held + taken
            return
        self.buffer = b""
        if header.source is not None:
            self.remote = header.source
        self.state = State.HEAD
        if self._tls is not None:
            self._begin_handshake(now)
        self.readable(now)

    # ---- TLS

    def _begin_handshake(self, now: float) -> None:
        self.state = State.HANDSHAKE
        self.deadline = now + self.service.handshake_timeout

    def _shake_hands(self, now: float) -> None:
        """Go on with the handshake."""
        assert self._tls is not None
        try:
            events = self._tls.handshake()
            described = {} if events else self._tls.describe()
        except ConnectionError:
            self.close()
        except OSError as error:
            self._handshake_failed(error, now)
        else:
            if events:
                flush = events != READABLE
                self.state = State.HANDSHAKE_FLUSH if flush else State.HANDSHAKE
                return
            self.base = {**self.base, **described}
            self.state = State.HEAD
            self.deadline = now + self.service.head_timeout
            if not self.service.persist:
                self.retire(now)
            self.readable(now)

    def _handshake_failed(self, error: OSError, now: float) -> None:
        """The client's mistake, or ours: of the certificate that it does not believe, say."""
        reason = getattr(error, "reason", None) or str(error)
        if reason in _PLAIN_HTTP:
            wrong = ProtocolError(400, "this port speaks HTTPS, and the request is plain HTTP")
            self._refuse_plainly(wrong, now)
            return
        self.service.log.debug(
            "the TLS handshake with %s failed: %s", self.remote[0] or "a client", reason
        )
        super()._linger(now)  # the client is told why by an alert, which a reset would destroy

    def _refuse_plainly(self, error: ProtocolError, now: float) -> None:
        """Answer in plain HTTP: there is no TLS yet, and there will be none."""
        if self._tls is not None:
            self.socket, self._tls = self._tls.plain(), None
        self._refuse(error, now)

    def _linger(self, now: float) -> None:
        """Close for sending. First the client is told that this was all: without that, the end of a
        body that is delimited by the close could be anybody's doing (RFC 9112 section 9.8)."""
        try:
            if self._tls is not None:
                self._tls.say_end()
        except BlockingIOError:
            self._drop_exchange()
            self.state = State.FLUSH
            self.deadline = self.take_by = now + self.service.write_timeout
            self._queued = self.queued()
            return
        except OSError:
            pass  # then it cannot be told
        super()._linger(now)
