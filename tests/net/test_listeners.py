"""Listening sockets: bound, adopted, taken over, and closed without a trace."""

import os
import socket
from pathlib import Path

import pytest

from forkserve.errors import ListenError
from forkserve.net.address import FdAddress, InetAddress, UnixAddress
from forkserve.net.listeners import clipped_backlog, open_listeners

ANY = InetAddress("127.0.0.1", 0)


def test_listening_on_a_port() -> None:
    (listener,) = open_listeners([ANY], 16)
    host, port = listener.name
    assert listener.url == f"http://127.0.0.1:{port}"
    assert not os.get_inheritable(listener.socket.fileno())
    assert not listener.socket.getblocking()
    assert listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    socket.create_connection((host, int(port))).close()
    listener.close()


def test_one_that_fails_closes_those_opened_with_it(tmp_path: Path) -> None:
    (taken,) = open_listeners([ANY], 16)
    before = len(os.listdir("/proc/self/fd"))
    busy = InetAddress("127.0.0.1", int(taken.name[1]))
    with pytest.raises(ListenError, match="another program is listening"):
        open_listeners([ANY, UnixAddress(str(tmp_path / "s")), busy], 16)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not (tmp_path / "s").exists()
    taken.close()


def test_existing_ones_are_taken_over() -> None:
    first = open_listeners([ANY], 16)
    second = open_listeners([ANY, InetAddress("localhost", 0)], 16, first)
    assert second[0] is first[0]
    for listener in second:
        listener.close()


@pytest.mark.parametrize(
    ("address", "part"),
    [
        (InetAddress("192.0.2.1", 8000), "no interface"),
        (InetAddress("no-such-host.invalid", 80), "cannot be resolved"),
        (UnixAddress("/nonexistent/s"), "directory must exist"),
        (FdAddress(9999), "no such descriptor"),
    ],
)
def test_reasons(address: object, part: str) -> None:
    with pytest.raises(ListenError, match=part) as caught:
        open_listeners([address], 16)  # type: ignore[list-item]
    assert str(caught.value).startswith(f"cannot listen on {address}: ")


def test_a_unix_socket_has_its_mode_when_it_can_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = os.umask(0o22)
    try:
        (listener,) = open_listeners([UnixAddress(str(path), 0o666)], 16)
        assert os.umask(0o22) == 0o22
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666
    assert listener.url == f"unix:{path}"
    listener.unlink()
    assert not path.exists()
    listener.close()


def test_a_stale_socket_is_replaced_a_live_one_is_not(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "s"))
    (first,) = open_listeners([address], 16)
    with pytest.raises(ListenError, match="another server is listening there"):
        open_listeners([address], 16)
    first.close()
    (second,) = open_listeners([address], 16)
    first.unlink()  # is no longer its file
    assert (tmp_path / "s").exists()
    second.unlink()
    second.close()


def test_what_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="not a socket"):
        open_listeners([UnixAddress(str(path))], 16)
    assert path.read_text() == "precious"


def test_adopting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        (listener,) = open_listeners([FdAddress(os.dup(given.fileno()))], 16)
        assert listener.name == ("127.0.0.1", str(given.getsockname()[1]))
        assert not os.get_inheritable(listener.socket.fileno())
        listener.close()
    with socket.socket() as deaf:
        with pytest.raises(ListenError, match="not listening"):
            open_listeners([FdAddress(deaf.fileno())], 16)
        assert deaf.fileno() >= 0
        os.fstat(deaf.fileno())  # is not closed by the refusal
    with open(os.devnull) as file, pytest.raises(ListenError, match="not a socket"):
        open_listeners([FdAddress(file.fileno())], 16)


def test_ipv4_and_ipv6_can_have_the_same_port() -> None:
    try:
        socket.create_server(("::", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    both = open_listeners([InetAddress("0.0.0.0", port), InetAddress("::", port)], 16)
    assert both[1].url == f"http://[::]:{port}"
    for listener in both:
        listener.close()


def test_the_kernels_bound_of_the_backlog() -> None:
    limit = int(Path("/proc/sys/net/core/somaxconn").read_text())
    assert clipped_backlog(limit) is None
    assert clipped_backlog(limit + 1) == limit
