"""Listening sockets: bound, adopted, taken over, and closed without a trace."""

import errno
import os
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from forkserve.errors import ListenError
from forkserve.net.address import Address, FdAddress, InetAddress, UnixAddress
from forkserve.net.listeners import Listener, adopt_listener, clipped_backlog, open_listeners

ANY = InetAddress("127.0.0.1", 0)


def test_listening_on_a_port() -> None:
    (listener,) = open_listeners([ANY], 16)
    host, port = listener.name
    assert listener.url_of("http") == f"http://127.0.0.1:{port}"
    assert not os.get_inheritable(listener.socket.fileno())
    assert not listener.socket.getblocking()
    assert listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    socket.create_connection((host, int(port))).close()
    listener.close()


def test_how_many_wait_to_be_accepted(tmp_path: Path) -> None:
    addresses = [ANY, UnixAddress(str(tmp_path / "s"))]
    inet, unix = listeners = open_listeners(addresses, 16)
    assert [item.waiting() for item in listeners] == [0, 0]
    name = (inet.name[0], int(inet.name[1]))
    clients = [socket.create_connection(name, timeout=5) for _ in range(3)]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(unix.name[0])
        assert [item.waiting() for item in listeners] == [3, 1]
    inet.socket.accept()[0].close()
    assert inet.waiting() == 2
    for item in (*clients, *listeners):
        item.close()
    unix.unlink()
    assert inet.waiting() == 0


def test_how_many_may_wait_is_what_the_kernel_says(tmp_path: Path) -> None:
    """Less than was asked for, if that is all it allows; of an inherited socket, its owner's."""
    kernel = int(Path("/proc/sys/net/core/somaxconn").read_text())
    addresses = [ANY, UnixAddress(str(tmp_path / "s"))]
    listeners = open_listeners(addresses, kernel + 7)
    assert [item.queue() for item in listeners] == [(0, kernel), (0, kernel)]
    for item in listeners:
        item.set_backlog(7)
    assert [item.queue() for item in listeners] == [(0, 7), (0, 7)]
    inherited = open_listeners(
        [FdAddress(os.dup(item.socket.fileno())) for item in listeners], kernel
    )
    assert [item.queue() for item in inherited] == [(0, 7), (0, 7)]
    for item in (*inherited, *listeners):
        item.close()


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


def test_an_address_given_twice_is_two_sockets_and_stays_so() -> None:
    first = open_listeners([ANY, ANY], 16)
    assert first[0].name != first[1].name
    again = open_listeners([ANY, ANY, ANY], 16, first)
    assert again[:2] == first
    assert again[2] not in first
    for listener in again:
        listener.close()


def test_a_socket_file_that_was_removed_is_made_anew_at_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "s"
    address = UnixAddress(str(path))
    (old,) = open_listeners([address], 16)
    assert open_listeners([address], 16, [old]) == [old]
    path.unlink()
    (new,) = open_listeners([address], 16, [old])
    assert new is not old
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        new.socket.accept()[0].close()
    old.unlink()  # as the generation that had it ends
    old.close()
    assert path.exists()
    new.unlink()
    new.close()


def room(listener: Listener) -> int:
    """How many more connections may wait."""
    waiting = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        waiting.append(client)
        if client.connect_ex(listener.name[0]) != 0:
            break
    for client in waiting:
        client.close()
    for _ in waiting[1:]:
        listener.socket.accept()[0].close()
    return len(waiting) - 1


def test_the_backlog_can_be_changed_while_it_listens(tmp_path: Path) -> None:
    (listener,) = open_listeners([UnixAddress(str(tmp_path / "s"))], 2)
    few = room(listener)
    listener.set_backlog(7)
    assert room(listener) == few + 5
    (inherited,) = open_listeners([FdAddress(os.dup(listener.socket.fileno()))], 2)
    inherited.set_backlog(2)  # is for its owner to decide
    assert room(listener) == few + 5
    inherited.close()
    listener.close()


@pytest.mark.parametrize(
    ("address", "part"),
    [
        (InetAddress("192.0.2.1", 8000), "no interface"),
        (InetAddress("no-such-host.invalid", 80), "cannot be resolved"),
        (InetAddress("a" * 300, 80), "host name is malformed"),
        (InetAddress("a..b", 80), "host name is malformed"),
        (InetAddress("\udcff", 80), "host name is malformed"),
        (InetAddress("\xfc" * 70, 80), "host name is malformed"),
        (InetAddress("a\0b", 80), "host name"),
        (UnixAddress("/nonexistent/s"), "directory must exist"),
        (UnixAddress("/tmp/a\0b"), "path is malformed"),
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
    assert listener.url_of("http") == f"unix:{path}"
    listener.unlink()
    assert not path.exists()
    listener.close()


@pytest.mark.parametrize("mode", [0o000, 0o600, 0o660, 0o777])
def test_a_unix_socket_is_born_with_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "s"
    seen = []

    def watch(frame: FrameType, event: str, called: Any) -> None:
        """See the file the moment that bind(2) has made it, and note what touches it later."""
        name = getattr(called, "__name__", "")
        if event == "c_return" and name == "bind":
            seen.append(path.stat().st_mode & 0o777)
        elif event == "c_call" and "chmod" in name:
            seen.append(-1)  # would follow a link that somebody puts there

    sys.setprofile(watch)
    try:
        (listener,) = open_listeners([UnixAddress(str(path), mode)], 16)
    finally:
        sys.setprofile(None)
    assert seen == [mode]
    assert path.stat().st_mode & 0o777 == mode
    listener.unlink()
    listener.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_unix_socket_has_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "s"
    address = UnixAddress(str(path), 0o660, 65534, 65533)
    (listener,) = open_listeners([address], 16)
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)
    assert path.stat().st_mode & 0o777 == 0o660
    assert listener.is_reachable()
    listener.unlink()
    assert not path.exists()
    listener.close()


def test_one_that_is_too_busy_to_answer_is_alive(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(10)]
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(1)
        for client in clients:
            client.setblocking(False)
            client.connect_ex(path)
        with pytest.raises(ListenError, match="another program is listening there"):
            open_listeners([UnixAddress(path)], 16)
        assert os.path.exists(path)
    for client in clients:
        client.close()


def test_a_socket_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(ListenError, match="cannot be told") as caught:
            open_listeners([UnixAddress(path)], 16)
        assert "Remove the file if none is" in str(caught.value)
        assert os.path.exists(path)


def test_what_this_server_itself_holds_is_not_blamed_on_others(tmp_path: Path) -> None:
    held = open_listeners([ANY, UnixAddress(str(tmp_path / "s"))], 16)
    port = int(held[0].name[1])
    path = str(tmp_path / "s")
    changed: list[Address] = [
        InetAddress("0.0.0.0", port), InetAddress("localhost", port), UnixAddress(path, 0o600),
    ]  # fmt: skip
    for address in changed:
        for kept in (0, 2):
            addresses = [*(listener.address for listener in held[:kept]), address]
            with pytest.raises(ListenError, match="this server itself listens there"):
                open_listeners(addresses, 16, held)
    assert all(listener.is_reachable() for listener in held)
    for listener in held:
        listener.unlink()
        listener.close()


def test_a_stale_socket_is_replaced_a_live_one_is_not(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "s"))
    (first,) = open_listeners([address], 16)
    with pytest.raises(ListenError, match=r"another program is listening there\. Stop it"):
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
    assert both[1].url_of("https") == f"https://[::]:{port}"
    for listener in both:
        listener.close()


def test_the_kernels_bound_of_the_backlog() -> None:
    limit = int(Path("/proc/sys/net/core/somaxconn").read_text())
    assert clipped_backlog(limit) is None
    assert clipped_backlog(limit + 1) == limit


def test_turning_away_keeps_those_that_have_connected() -> None:
    (listener,) = open_listeners([ANY], 16)
    where = (listener.name[0], int(listener.name[1]))
    with socket.create_connection(where) as queued, socket.socket() as late:
        listener.turn_away()
        late.setblocking(False)
        assert late.connect_ex(where) == errno.EINPROGRESS
        accepted, _ = listener.socket.accept()
        with pytest.raises(BlockingIOError):
            listener.socket.accept()
        listener.close()
        with accepted:  # which has the filter too, and is not harmed by it
            queued.sendall(b"x" * 100_000)
            queued.shutdown(socket.SHUT_WR)
            received = b""
            while block := accepted.recv(65536):
                received += block
            assert len(received) == 100_000
            accepted.sendall(b"y")
            assert queued.recv(10) == b"y"


@pytest.mark.parametrize("whose", ["the service manager's", "a successor's"])
def test_what_is_not_ours_alone_turns_nobody_away(whose: str) -> None:
    (listener,) = open_listeners([ANY], 16)
    if whose == "a successor's":
        listener.shared = True
    else:
        (listener,) = open_listeners([FdAddress(os.dup(listener.socket.fileno()))], 16)
    listener.turn_away()
    where = (listener.name[0], int(listener.name[1]))
    socket.create_connection(where, timeout=5).close()
    listener.close()


def test_the_listeners_of_the_master_before(tmp_path: Path) -> None:
    old = open_listeners([ANY, UnixAddress(str(tmp_path / "s"))], 16)
    adopted = [
        adopt_listener(item.address, os.dup(item.socket.fileno()), item.has_file) for item in old
    ]
    for item in adopted:  # they are still the other's
        item.unlink()
        item.turn_away()
    assert old[1].is_reachable()
    socket.create_connection((old[0].name[0], int(old[0].name[1])), timeout=5).close()
    for item in old:
        item.shared = True
        item.unlink()
        item.close()
    for item in adopted:
        item.shared = False
    taken = open_listeners([UnixAddress(str(tmp_path / "s")), ANY], 16, adopted)
    assert sorted(map(id, taken)) == sorted(map(id, adopted))
    assert all(not os.get_inheritable(item.socket.fileno()) for item in taken)
    for item in taken:
        item.unlink()
        item.close()
    assert os.listdir(tmp_path) == []


def test_a_path_that_is_too_long_says_how_long_it_may_be() -> None:
    with pytest.raises(ListenError, match="can have 107 octets: choose a shorter one"):
        open_listeners([UnixAddress(f"/tmp/{'x' * 120}", 0o600)], 16)
