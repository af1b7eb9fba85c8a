"""What comes before the first request: the PROXY header and the TLS handshake, with our clock."""

import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkserve.net.peers import EVERYBODY, parse_peer
from forkserve.settings import Settings
from forkserve.worker.connection import Connection
from forkserve.worker.preface import connector
from forkserve.worker.state import ROWS, UNCHANGED, State
from tests.certificates import Certificates
from tests.worker.peer import GET, App, Peer, hello, streaming, tcp_pair, whole

PROXY = b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXY2 = SIGNATURE + bytes([0x21, 0x11, 0, 12, 203, 0, 113, 7, 198, 51, 100, 1, 0x10, 0x92, 1, 187])
LOCAL = SIGNATURE + b"\x20\0\0\0"


def who(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [f"{environ['REMOTE_ADDR']} {environ['REMOTE_PORT']}".encode()]


def proxied(app: App = who, **settings: Any) -> Peer:
    allowed = settings.pop("allow", ("192.0.2.0/24",))
    return Peer(
        app, proxy_protocol="on", proxy_allow_from=tuple(map(parse_peer, allowed)), **settings
    )


def test_who_needs_no_preface_has_none() -> None:
    peer = Peer(hello)
    assert type(peer.connection) is Connection
    assert connector(Settings(app="a:b"), None) is Connection


# ---- the PROXY protocol


@pytest.mark.parametrize("header", [PROXY, PROXY2], ids=["1", "2"])
def test_the_client_is_who_the_proxy_says(header: bytes) -> None:
    peer = proxied()
    peer.send(header + GET)
    assert peer.body() == b"203.0.113.7 4242"
    assert [access.remote for access in peer.accesses.seen] == ["203.0.113.7"]
    peer.send(GET)
    assert peer.body() == b"203.0.113.7 4242"
    assert peer.state is State.IDLE


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_proxy_that_speaks_for_itself(header: bytes) -> None:
    peer = proxied()
    peer.send(header + GET)
    assert peer.body() == b"192.0.2.1 4711"


@pytest.mark.parametrize("header", [PROXY, PROXY2], ids=["1", "2"])
def test_a_header_in_pieces(header: bytes) -> None:
    octets = header + GET
    for cut in range(1, len(octets)):
        peer = proxied()
        peer.send(octets[:cut])
        assert (peer.state is State.PROXY) == (cut < len(header)), cut
        peer.send(octets[cut:])
        assert peer.body() == b"203.0.113.7 4242", cut
    peer = proxied()
    for index in range(len(octets)):
        peer.send(octets[index : index + 1])
    assert peer.body() == b"203.0.113.7 4242"


@pytest.mark.parametrize(
    "octets",
    [GET, PROXY[:-2] + b"\n", b"PROXY UNKNOWN " + b"x" * 200, SIGNATURE + b"\x21\x11\xff\xff"],
)
def test_without_a_header_that_is_right_there_is_no_request(octets: bytes) -> None:
    peer = proxied()
    peer.send(octets)
    assert peer.statuses() == [400]
    assert peer.state is State.LINGER
    assert peer.service.requests == 0
    (line,) = peer.log.lines
    assert line.startswith("192.0.2.1 is in `proxy_allow_from`, and ")
    assert [(access.status, access.remote) for access in peer.accesses.seen] == [(400, "192.0.2.1")]


@pytest.mark.parametrize("header", [PROXY, PROXY2], ids=["1", "2"])
def test_a_second_header_is_a_malformed_request(header: bytes) -> None:
    peer = proxied()
    peer.send(PROXY + header + GET)
    assert peer.statuses() == [400]
    peer = proxied()
    peer.send(PROXY + GET)
    assert peer.statuses() == [200]
    peer.send(header + GET)  # on a persistent connection
    assert peer.statuses() == [400]
    assert peer.service.requests == 1
    peer = proxied()
    peer.send(PROXY + GET + header + GET)  # sent ahead
    assert peer.statuses() == [200, 400]
    assert {access.remote for access in peer.accesses.seen} == {"203.0.113.7"}


@pytest.mark.parametrize("header", [PROXY, PROXY2], ids=["1", "2"])
def test_from_others_a_header_is_a_malformed_request(header: bytes) -> None:
    for peer in (proxied(allow=("198.51.100.0/24", "unix")), Peer(who)):
        peer.send(header + GET)
        assert peer.statuses() == [400]
        assert peer.accesses.seen[0].remote == "192.0.2.1"
    peer = proxied(allow=("unix",))
    peer.send(GET)
    assert peer.body() == b"192.0.2.1 4711"


@pytest.mark.parametrize("header", [PROXY, PROXY2], ids=["1", "2"])
def test_a_header_of_somebody_else_is_said_once(header: bytes) -> None:
    for peer in (proxied(allow=("198.51.100.0/24",)), Peer(who)):
        peer.send(header + GET)
        (line,) = peer.log.lines
        assert line.startswith("192.0.2.1 sends a PROXY header, and is not asked for one")
        peer.service.refuse_proxy_header("192.0.2.2")
        assert peer.log.lines == [line]


@pytest.mark.parametrize("octets", [b"", PROXY[:20], PROXY2[:20]])
def test_a_proxy_that_does_not_go_on_is_closed(octets: bytes) -> None:
    peer = proxied()
    peer.send(octets)
    peer.wait(9.9)
    assert peer.state is State.PROXY
    peer.send(b"")
    peer.wait(0.1)
    assert peer.state is State.CLOSED
    assert peer.read() == b""
    peer = proxied()
    peer.send(octets)
    peer.close()
    assert (peer.state, peer.accesses.seen) == (State.CLOSED, [])


def test_the_head_behind_the_header_has_its_deadline() -> None:
    peer = proxied()
    peer.send(PROXY + GET[:10])
    peer.wait(10)
    assert peer.statuses() == [408]


# ---- TLS


class TlsPeer(Peer):
    """A client of TLS, not connected before ``shake``, and the connection that serves it."""

    def __init__(
        self, app: App, certificates: Certificates, client: str | None = None, **options: Any
    ) -> None:
        shape = options.pop("shape", None)
        super().__init__(app, **{**certificates.settings(), **options})
        context = ssl.create_default_context(cafile=certificates.pem("ca"))
        context.set_alpn_protocols(["h2", "http/1.1"])
        if client is not None:
            context.load_cert_chain(certificates.pem(client), certificates.key(client))
        if shape is not None:
            shape(context)
        self.tls = context.wrap_socket(
            self.socket,
            server_hostname="localhost",
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self.socket = self.tls

    def shake(self) -> "TlsPeer":
        while self.state in (State.HANDSHAKE, State.HANDSHAKE_FLUSH):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            self.step()
        self.tls.do_handshake()
        return self

    def turn(self, timeout: float | None = None) -> None:
        """What the loop does when epoll reports the connection, which has ``timeout`` seconds."""
        events = ROWS[self.state].events
        poll = select.poll()
        poll.register(self.connection.socket, events)
        if events == UNCHANGED or poll.poll(None if timeout is None else timeout * 1000):
            self.step()

    def read(self) -> bytes:
        """Everything that was sent so far. Raises ssl.SSLEOFError for an end that is none."""
        octets = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while more := self.tls.recv(65536):
                octets += more
            octets += b"<end>"
        return octets

    def read_all(self) -> bytes:
        """The same, while the connection sends more."""
        octets = self.read()
        while self.state is State.FLUSH:
            self.step()
            octets += self.read()
        return octets


def send_plain(peer: TlsPeer, octets: bytes) -> None:
    """Past the client's TLS."""
    socket.socket.send(peer.tls, octets)


def read_plain(peer: TlsPeer) -> bytes:
    return socket.socket.recv(peer.tls, 65536)


@pytest.fixture
def tls(certificates: Certificates) -> Callable[..., TlsPeer]:
    return lambda app=hello, **options: TlsPeer(app, certificates, **options)


Tls = Callable[..., TlsPeer]


def shown(*names: str) -> App:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [repr([environ.get(name) for name in names]).encode()]

    return app


def test_requests_over_tls(tls: Tls) -> None:
    peer = tls()
    assert peer.state is State.HANDSHAKE
    peer.shake()
    assert peer.tls.selected_alpn_protocol() == "http/1.1"
    assert peer.state is State.HEAD
    for _ in range(3):
        peer.send(GET)
        assert peer.body() == b"hello"
        assert peer.state is State.IDLE
    peer.wait(75)
    assert (peer.state, peer.read()) == (State.CLOSED, b"<end>")


@pytest.mark.parametrize(("version", "name"), [("TLSv1_2", "TLSv1.2"), ("TLSv1_3", "TLSv1.3")])
def test_environ_says_what_the_connection_is(tls: Tls, version: str, name: str) -> None:
    def shape(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion[version]

    names = ("wsgi.url_scheme", "HTTPS", "SSL_PROTOCOL", "SSL_CIPHER", "SSL_CLIENT_VERIFY",
             "SSL_CLIENT_S_DN", "SSL_CLIENT_CERT", "SERVER_PORT")  # fmt: skip
    peer = tls(shown(*names), shape=shape).shake()
    cipher = peer.tls.cipher()
    assert cipher is not None
    forged = b"SSL-Client-Verify: SUCCESS\r\nSSL_CLIENT_VERIFY: SUCCESS\r\nHTTPS: off\r\n\r\n"
    peer.send(GET[:-2] + forged)
    expected = ["https", "on", name, cipher[0], "NONE", None, None, "8000"]
    assert peer.body() == repr(expected).encode()


def test_plain_http_has_none_of_it() -> None:
    peer = Peer(shown("wsgi.url_scheme", "HTTPS", "SSL_PROTOCOL", "SSL_CLIENT_VERIFY"))
    peer.send(GET)
    assert peer.body() == b"['http', None, None, None]"


def test_a_client_certificate(tls: Tls, certificates: Certificates) -> None:
    app = shown("SSL_CLIENT_VERIFY", "SSL_CLIENT_S_DN", "SSL_CLIENT_CERT")
    for reqs in ("optional", "required"):
        peer = tls(app, client="client", ca_certs=certificates.pem("ca"), cert_reqs=reqs).shake()
        peer.send(GET)
        with open(certificates.pem("client")) as file:
            pem = file.read()
        subject = "CN=alice,O=Caf\u00e9\\, Inc.,C=DE".encode().decode("latin-1")
        assert peer.body() == repr(["SUCCESS", subject, pem]).encode()
    peer = tls(app, ca_certs=certificates.pem("ca"), cert_reqs="optional").shake()
    peer.send(GET)
    assert peer.body() == b"['NONE', None, None]"


@pytest.mark.parametrize("client", [None, "stranger"])
def test_a_client_without_the_right_certificate(
    tls: Tls, certificates: Certificates, client: str | None
) -> None:
    peer = tls(client=client, ca_certs=certificates.pem("ca"), cert_reqs="required")
    peer.shake()  # with TLS 1.3 the client's part is done before it is judged
    assert peer.state is State.LINGER
    with pytest.raises(ssl.SSLError, match="alert"):
        peer.read()
    assert peer.service.requests == 0
    assert len(peer.log.lines) == 1
    assert "the TLS handshake with 192.0.2.1 failed: " in peer.log.lines[0]
    peer.wait(5)
    assert peer.state is State.CLOSED


def test_a_client_whose_certificate_cannot_be_read(tls: Tls, certificates: Certificates) -> None:
    peer = tls(client="unreadable", ca_certs=certificates.pem("ca"), cert_reqs="optional").shake()
    assert peer.state is State.LINGER
    assert peer.read() == b"<end>"
    assert peer.service.requests == 0
    assert peer.log.lines == [
        "the TLS handshake with 192.0.2.1 failed: its certificate cannot be read: 'utf-8' codec "
        "can't decode byte 0xff in position 0: invalid start byte"
    ]


@pytest.mark.parametrize("pieces", [0, 1, 100])
def test_a_handshake_has_a_deadline(tls: Tls, pieces: int) -> None:
    """A silent client, and one that is slow; nothing is answered."""
    peer = tls(handshake_timeout=4.0)
    peer.run()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    for octet in outgoing.read()[:pieces]:
        send_plain(peer, bytes([octet]))
        peer.run()
    peer.wait(3.9)
    assert peer.state is State.HANDSHAKE
    peer.wait(0.1)
    assert peer.state is State.CLOSED
    assert read_plain(peer) == b""
    assert (peer.log.lines, peer.accesses.seen) == ([], [])


def test_the_head_has_its_own_deadline_after_the_handshake(tls: Tls) -> None:
    peer = tls()
    peer.clock.now += 9
    peer.shake()
    assert peer.connection.deadline == peer.clock.now + 10
    peer.send(GET[:5])
    peer.wait(10)
    response = peer.read()
    assert response.startswith(b"HTTP/1.1 408 ")
    assert response.endswith(b"<end>")


def test_a_handshake_that_finds_no_room_goes_on_later(
    tls: Tls, certificates: Certificates, tmp_path: Path
) -> None:
    chain = tmp_path / "chain.pem"
    pems = [Path(certificates.pem(name)).read_text() for name in ("server", *["ca"] * 40)]
    chain.write_text("".join(pems))
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    peer = tls(ends=(ours, theirs), certfile=str(chain))
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    peer.step()
    assert peer.state is State.HANDSHAKE_FLUSH
    peer.shake()
    peer.send(GET)
    assert peer.body() == b"hello"


def test_a_client_that_leaves_before_the_handshake(tls: Tls) -> None:
    peer = tls()
    peer.close()
    assert (peer.state, peer.log.lines) == (State.CLOSED, [])
    peer = tls()
    send_plain(peer, b"\x16\x03\x01")
    peer.close()
    peer.run_to(State.CLOSED)
    assert (peer.state, peer.log.lines) == (State.CLOSED, [])


@pytest.mark.parametrize(
    "octets", [b"\0" * 100, b"SSH-2.0-x\r\n", b"OPTIONS * HTTP/1.1\r\n", b"\x16\x03\x01\0\x05hello"]
)
def test_garbage_instead_of_a_handshake(tls: Tls, octets: bytes) -> None:
    peer = tls()
    send_plain(peer, octets)
    peer.run()
    assert peer.state is State.LINGER
    assert len(peer.log.lines) == 1
    assert b"HTTP" not in read_plain(peer)
    peer.close()
    assert (peer.state, peer.service.requests, peer.accesses.seen) == (State.CLOSED, 0, [])


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_plain_http_to_a_tls_port_is_told_so(tls: Tls, method: bytes) -> None:
    peer = tls()
    send_plain(peer, method + GET[3:])
    peer.run()
    answer = read_plain(peer)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"this port speaks HTTPS" in answer
    assert b"Connection: close" in answer
    assert [access.status for access in peer.accesses.seen] == [400]
    assert (peer.state, peer.log.lines, peer.service.requests) == (State.LINGER, [], 0)
    peer.close()
    assert peer.state is State.CLOSED


def test_pipelined_requests_in_one_record_and_in_many(tls: Tls) -> None:
    peer = tls().shake()
    peer.send(GET * 30, run=False)
    for _ in range(30):
        peer.tls.send(GET)
    peer.run()
    assert peer.statuses() == [200] * 60
    assert peer.state is State.IDLE


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 65536, 300000])
def test_uploads_leave_nothing_behind_that_epoll_cannot_see(tls: Tls, size: int) -> None:
    peer = tls(whole, ends=tcp_pair(4096, 4096)).shake()
    body = bytes(range(256)) * (size // 256 + 1)
    left = memoryview(
        b"POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + body[:size]
    )
    while left:
        with contextlib.suppress(ssl.SSLWantWriteError):
            left = left[peer.tls.send(left[:20000]) :]
        peer.turn(0)
    received = b""
    while len(received.partition(b"\r\n\r\n")[2]) < size + 3:
        peer.turn(0)
        received += peer.read()
    assert received.endswith(b"\r\n\r\n/u=" + body[:size])
    assert peer.state is State.IDLE


def test_small_records_are_decrypted_a_few_at_a_time(tls: Tls) -> None:
    peer = tls(whole, ends=tcp_pair(65536, 65536)).shake()
    peer.tls.send(b"POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: 700\r\n\r\n")
    for _ in range(700):
        peer.tls.send(b"x")
    turns = 0
    while peer.state is not State.IDLE:
        peer.turn()
        turns += 1
    assert turns >= 4  # others have theirs in between
    assert peer.body() == b"/u=" + b"x" * 700


@pytest.mark.parametrize("blocks", [[b"x" * 900_000], [b"x" * 30_000] * 30, [b"x"] * 500])
@pytest.mark.parametrize("protocol", [b"1.0", b"1.1"])
def test_downloads_through_small_buffers(tls: Tls, protocol: bytes, blocks: list[bytes]) -> None:
    peer = tls(streaming(blocks), ends=tcp_pair(4096, 4096)).shake()
    peer.send(b"GET / HTTP/%s\r\nHost: h\r\nConnection: close\r\n\r\n" % protocol)
    received = peer.read_all()
    while not received.endswith(b"<end>"):
        received += peer.read()
    assert received.count(b"x") == sum(map(len, blocks))
    assert peer.state is State.LINGER


def test_an_end_that_finds_no_room_is_sent_later(tls: Tls) -> None:
    """Otherwise the end of a body that is delimited by the close could be anybody's doing."""
    waited = 0
    for size in range(2000, 40000, 400):
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        peer = tls(streaming([b"x" * size]), ends=(ours, theirs)).shake()
        peer.send(b"GET / HTTP/1.0\r\n\r\n")
        received = b""
        while not received.endswith(b"<end>"):
            # Every octet of the response is out, and only the end is not.
            waited += peer.state is State.FLUSH and peer.connection.exchange is None
            received += peer.read()
            peer.step()
        assert peer.state is State.LINGER
        assert received.endswith(b"\r\n\r\n" + b"x" * size + b"<end>"), size
        assert len(peer.accesses.seen) == 1
    assert waited


def test_a_client_that_never_takes_the_end(tls: Tls) -> None:
    peer = tls(streaming([b"x" * 100_000]), ends=tcp_pair(4096, 4096)).shake()
    peer.send(b"GET / HTTP/1.0\r\n\r\n")
    assert peer.state is State.FLUSH
    peer.wait(30)
    peer.wait(30)
    assert peer.state is State.CLOSED


def test_a_stream_that_fails_does_not_end(tls: Tls) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"one"
        raise RuntimeError

    peer = tls(app, ends=tcp_pair(65536, 65536)).shake()
    peer.send(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
    assert peer.state is State.CLOSED
    with pytest.raises(OSError, match=r"EOF occurred|reset"):  # the close would be its end
        peer.read()
    peer = tls(app, ends=tcp_pair(65536, 65536)).shake()
    peer.send(GET)
    assert peer.state is State.LINGER
    assert peer.read().endswith(b"\r\n3\r\none\r\n<end>")  # without a last chunk


def test_the_end_behind_a_request_is_not_lost(tls: Tls) -> None:
    """The octets and the end come at once; the answer goes out, and then the end is seen."""
    peer = tls(ends=tcp_pair(65536, 65536)).shake()
    peer.tls.send(GET)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.unwrap()
    peer.step()
    assert peer.state is State.IDLE
    peer.run_to(State.CLOSED)  # which waits for the socket to be readable
    assert [access.status for access in peer.accesses.seen] == [200]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_end_without_a_farewell_takes_no_response_away(
    tls: Tls, version: ssl.TLSVersion
) -> None:
    def shape(context: ssl.SSLContext) -> None:
        context.maximum_version = version

    peer = tls(streaming([b"x" * 30_000] * 30), ends=tcp_pair(4096, 4096), shape=shape).shake()
    peer.send(GET + GET, run=False)
    socket.socket.shutdown(peer.tls, socket.SHUT_WR)  # of TCP, and nothing of TLS
    peer.run()
    received = peer.read_all()
    while not received.endswith(b"<end>"):
        if peer.state is not State.CLOSED:
            peer.step()
        received += peer.read_all()
    assert received.count(b"x") == 2 * 900_000
    assert received.endswith(b"0\r\n\r\n<end>")


def test_a_truncated_upload_calls_nobody(tls: Tls) -> None:
    peer = tls(whole).shake()
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    socket.socket.shutdown(peer.tls, socket.SHUT_WR)
    peer.run()
    assert (peer.state, peer.service.requests) == (State.CLOSED, 0)


def test_an_absolute_target_has_the_scheme_of_the_connection(tls: Tls) -> None:
    for scheme, status in ((b"https", 200), (b"HTTPS", 200), (b"http", 421)):
        peer = tls().shake()
        peer.send(b"GET %s://h/ HTTP/1.1\r\nHost: h\r\n\r\n" % scheme)
        assert peer.read().startswith(b"HTTP/1.1 %d " % status)


def test_a_worker_that_leaves_waits_a_second_for_handshakes(tls: Tls) -> None:
    peer = tls()
    peer.service.persist = False
    peer.connection.retire(peer.clock.now)
    assert peer.connection.deadline == peer.clock.now + 1
    peer.shake()
    assert peer.connection.deadline == peer.clock.now + 1
    peer.send(GET)
    assert b"Connection: close" in peer.read()


# ---- both


@pytest.mark.parametrize("header", [PROXY, PROXY2], ids=["1", "2"])
def test_the_header_comes_before_the_handshake(tls: Tls, header: bytes) -> None:
    peer = tls(who, proxy_protocol="on", proxy_allow_from=(EVERYBODY,))
    assert peer.state is State.PROXY
    send_plain(peer, header[:9])
    peer.run()
    send_plain(peer, header[9:])
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    peer.run()
    peer.shake()
    peer.send(GET)
    assert peer.body() == b"203.0.113.7 4242"
    peer.send(PROXY + GET)  # inside TLS, and late
    assert peer.read().startswith(b"HTTP/1.1 400 ")


def test_a_handshake_where_a_header_is_due(tls: Tls) -> None:
    peer = tls(who, proxy_protocol="on", proxy_allow_from=(EVERYBODY,))
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    peer.run()
    assert peer.state is State.LINGER
    assert read_plain(peer).startswith(b"HTTP/1.1 400 ")
