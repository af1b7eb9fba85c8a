"""TLS without octets for the application: others have their turn, and it comes to an end."""

import fcntl
import socket
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkserve.worker.state import State
from tests.certificates import Certificates
from tests.worker.floods import NULL, Libssl, Renegotiator
from tests.worker.peer import GET, Peer, hello, whole

_ONE_TURN = 16645  # the longest record
_IN_ALL = 65536

Client = Libssl | Renegotiator


def shaken(client: Client, certificates: Certificates, **options: Any) -> Peer:
    app = options.pop("app", hello)
    peer = Peer(app, **certificates.settings(), **options)
    while peer.state in (State.HANDSHAKE, State.HANDSHAKE_FLUSH):
        peer.send(client.shake(peer.read()))
    client.shake(peer.read())
    return peer


def waiting(peer: Peer) -> int:
    """Octets in the kernel that the server has not received."""
    octets = fcntl.ioctl(peer.connection.socket, termios.FIONREAD, bytes(4))
    return int.from_bytes(octets, "little")


def is_cut_off(peer: Peer, flood: Callable[[], bytes]) -> None:
    sent = 0
    while peer.state is not State.CLOSED:
        octets = flood()
        sent += len(octets)
        peer.send(octets, run=False)
        while peer.state is not State.CLOSED and (before := waiting(peer)):
            peer.step()
            assert peer.state is State.CLOSED or 0 < before - waiting(peer) <= _ONE_TURN
    assert _IN_ALL < sent <= _IN_ALL + 2 * len(octets)
    assert peer.service.requests == 0


@pytest.mark.parametrize("both", [False, True])
def test_key_updates_without_end(certificates: Certificates, *, both: bool) -> None:
    client = Libssl()
    is_cut_off(shaken(client, certificates), lambda: client.update_keys(700, both=both))


def test_hellos_without_end(certificates: Certificates, tmp_path: Path) -> None:
    client = Renegotiator(tmp_path / "keys")
    peer = shaken(client, certificates, ciphers=NULL)
    is_cut_off(peer, lambda: client.hellos(100))


@pytest.mark.parametrize("both", [False, True])
def test_key_updates_before_each_request(certificates: Certificates, *, both: bool) -> None:
    client = Libssl()
    peer = shaken(client, certificates)
    for number in range(1, 5):
        for octets in (client.update_keys(1500, both=both), client.record(GET)):
            peer.send(octets, run=False)
            while waiting(peer):
                peer.step()
        assert peer.service.requests == number
        assert peer.state is State.IDLE
        peer.read()


def test_our_key_updates_that_nobody_takes_are_not_kept(certificates: Certificates) -> None:
    client = Libssl()
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    peer = shaken(client, certificates, app=whole, ends=(ours, theirs))
    peer.send(client.record(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n"))
    sent = 0
    while peer.state is not State.CLOSED:
        octets = client.update_keys(500, both=True) + client.record(b"x")
        sent += len(octets)
        peer.send(octets, run=False)
        while peer.state is not State.CLOSED and waiting(peer):
            peer.step()
    assert sent <= 2 * _IN_ALL
    assert peer.service.requests == 0


@pytest.mark.parametrize("piece", [1, 1000])
def test_records_in_small_segments(certificates: Certificates, piece: int) -> None:
    """From the handshake on. What is not complete is not taken for a flood."""
    client = Libssl()
    peer = Peer(whole, **certificates.settings())

    def send(octets: bytes) -> None:
        for at in range(0, len(octets), piece):
            peer.send(octets[at : at + piece])

    while peer.state in (State.HANDSHAKE, State.HANDSHAKE_FLUSH):
        send(client.shake(peer.read()))
    client.shake(peer.read())
    for _ in range(6):
        send(client.record(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 16000\r\n\r\n"))
        send(client.record(b"x" * 16000))
    assert (peer.service.requests, peer.state) == (6, State.IDLE)


def test_nothing_counts_behind_the_end(certificates: Certificates) -> None:
    client = Libssl()
    peer = shaken(client, certificates)
    peer.send(client.record(GET) + client.end() + client.record(GET) + b"x" * 3000)
    peer.run()
    assert (peer.service.requests, peer.state) == (1, State.CLOSED)


def test_what_was_tampered_with_is_the_end(certificates: Certificates) -> None:
    client = Libssl()
    peer = shaken(client, certificates)
    peer.send(client.record(GET) + client.record(GET)[:-1] + b"?" + client.record(GET))
    peer.run()
    assert (peer.service.requests, peer.state) == (1, State.CLOSED)
