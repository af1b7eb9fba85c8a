"""Connections on their way from one worker to another: each arrives once, or is closed."""

import contextlib
import math
import os
import select
import socket
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forkserve.net.fdpass import send_fd
from forkserve.worker.handoff import MAX_OCTETS, HandoffQueue, Parcel, decode, encode
from tests.descriptors import (
    allow_no_more_descriptors,
    in_a_child,
    lose_privileges,
    open_descriptors,
    send_many,
)
from tests.worker.siblings import PLAIN, Client, serve

pytestmark = pytest.mark.usefixtures("nothing_leaks")

INF = float("inf")
PARCELS = [
    PLAIN,
    Parcel(("", ""), "unix:/run/app.sock,mode=660", 3, INF, b"GET / HTTP/1.1\r\nHos"),
    Parcel(("2001:db8::1", "1"), "[::]:8000", (1 << 64) - 1, 0.0, b"\0\xff" * (MAX_OCTETS // 2)),
    Parcel(("fe80::1", "65535"), "unix:/b\udce9b\udcff\u20ac", 1 << 40, 1e-9, b"x"),
    Parcel(("", ""), "", 0, 1e300, b"\r\n"),
    Parcel(("a" * 1024, "b" * 1024), "c" * 1024, 0, INF, b"d" * MAX_OCTETS),
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


# ---- the parcel


@pytest.mark.parametrize("parcel", PARCELS)
def test_a_parcel_is_read_as_it_was_written(parcel: Parcel) -> None:
    assert decode(encode(parcel)) == parcel


@given(
    address=TEXT, port=TEXT, listener=TEXT,
    path=st.binary(max_size=50),
    served=st.integers(0, (1 << 64) - 1),
    deadline=st.floats(min_value=0.0),
    octets=st.binary(max_size=MAX_OCTETS),
)  # fmt: skip
def test_any_parcel_is_read_as_it_was_written(
    address: str, port: str, listener: str, path: bytes, served: int, deadline: float, octets: bytes
) -> None:
    for name in (listener, os.fsdecode(path)):
        parcel = Parcel((address, port), name, served, deadline, octets)
        assert decode(encode(parcel)) == parcel


@pytest.mark.parametrize("deadline", [-0.0, -1.0, -INF])
def test_there_is_no_time_before_the_clock_began(deadline: float) -> None:
    left = decode(encode(PLAIN._replace(deadline=deadline))).deadline
    assert left == 0.0 and math.copysign(1.0, left) > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"octets": b"x" * (MAX_OCTETS + 1)}, {"remote": ("a" * 1025, "")},
        {"remote": ("", "a" * 1025)}, {"remote": ("\ud800", "")}, {"listener": "\u20ac" * 342},
        {"listener": "\ud800"}, {"served": -1}, {"served": 1 << 64}, {"deadline": math.nan},
    ],
)  # fmt: skip
def test_what_cannot_be_written(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(PLAIN._replace(**changes))


def decodes_exactly_or_not_at_all(octets: bytes) -> None:
    """Nothing else is raised, and two messages never mean the same."""
    try:
        parcel = decode(octets)
    except ValueError:
        return
    assert encode(parcel) == octets
    assert parcel.deadline >= 0 and 0 <= parcel.served < 1 << 64
    assert len(parcel.octets) <= MAX_OCTETS


@given(st.binary(max_size=200))
@example(b"")
def test_any_octets(octets: bytes) -> None:
    decodes_exactly_or_not_at_all(octets)
    decodes_exactly_or_not_at_all(b"\x01" + octets)


@given(
    numbers=st.binary(min_size=16, max_size=16),
    lengths=st.tuples(*[st.integers(0, 20)] * 4),
    rest=st.binary(max_size=80),
)
def test_any_octets_of_the_right_shape(
    numbers: bytes, lengths: tuple[int, ...], rest: bytes
) -> None:
    written = b"".join(length.to_bytes(2, "big") for length in lengths)
    for end in (len(rest), sum(lengths)):
        decodes_exactly_or_not_at_all(b"\x01" + numbers + written + rest[:end])


@pytest.mark.parametrize("parcel", PARCELS)
def test_a_parcel_that_is_cut_or_has_more_is_none(parcel: Parcel) -> None:
    octets = encode(parcel)
    for end in range(len(octets)):
        with pytest.raises(ValueError, match="parcel"):
            decode(octets[:end])
    for more in (b"\0", b"x" * 100, octets):
        with pytest.raises(ValueError, match="parcel"):
            decode(octets + more)


@pytest.mark.parametrize("parcel", PARCELS[:2] + PARCELS[3:5])
def test_a_parcel_with_one_octet_changed(parcel: Parcel) -> None:
    octets = bytearray(encode(parcel))
    for index, right in enumerate(octets):
        for wrong in range(256):
            octets[index] = wrong
            decodes_exactly_or_not_at_all(bytes(octets))
        octets[index] = right


@pytest.mark.parametrize("index", range(4))
def test_a_part_that_is_too_long(index: int) -> None:
    longest = [1024, 1024, 1024, MAX_OCTETS]
    for more in (0, 1):
        longest[index] += more
        lengths = b"".join(length.to_bytes(2, "big") for length in longest)
        octets = b"\x01" + bytes(16) + lengths + b"x" * sum(longest)
        if more:
            with pytest.raises(ValueError, match="too long"):
                decode(octets)
        else:
            decode(octets)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_a_parcel_of_another_version(version: int) -> None:
    with pytest.raises(ValueError, match="version"):
        decode(bytes([version]) + encode(PLAIN)[1:])


# ---- the queue


def test_a_connection_goes_with_its_parcel(queue: HandoffQueue) -> None:
    assert queue.take() is None
    for parcel in PARCELS:
        client = Client().given_to(queue, parcel)
        client.socket.send(b"after")
        taken = queue.take()
        assert taken is not None
        sock, received = taken
        assert received == parcel
        assert sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM
        assert sock.gettimeout() == 0.0 and not os.get_blocking(sock.fileno())
        assert not os.get_inheritable(sock.fileno())
        assert sock.recv(100) == b"after"
        sock.send(b"served")
        sock.close()
        assert client.reads() == b"served"
    assert queue.take() is None
    assert not queue.refusals and not queue.spoiled and not queue.starved


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET6])
def test_connections_of_other_families(queue: HandoffQueue, family: socket.AddressFamily) -> None:
    if family == socket.AF_UNIX:
        client, server = socket.socketpair()
    else:
        with socket.create_server(("::1", 0), family=family) as listener:
            client = socket.create_connection(listener.getsockname()[:2])
            server, _ = listener.accept()
    assert queue.give(server, PLAIN)
    server.close()
    taken = queue.take()
    assert taken is not None and taken[0].family == family
    taken[0].close()
    assert client.recv(1) == b""
    client.close()


def test_a_client_that_has_reset_meanwhile_is_the_takers_to_see(queue: HandoffQueue) -> None:
    client = Client().given_to(queue)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.socket.close()
    taken = queue.take()
    assert taken is not None
    with taken[0] as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)
    assert queue.spoiled == 0


def test_the_ends_do_not_survive_an_exec_nor_block(queue: HandoffQueue) -> None:
    for fd in queue.fds():
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
    assert queue.fileno() == queue.fds()[0]


def test_one_parcel_wakes_one_of_those_that_poll(queue: HandoffQueue) -> None:
    poll = select.epoll()
    poll.register(queue.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
    assert poll.poll(0) == []
    client = Client().given_to(queue)
    assert poll.poll(0) == [(queue.fileno(), select.EPOLLIN)]
    assert serve(queue) == 1
    assert poll.poll(0) == []
    assert client.reads() == b"served"
    poll.close()


def room_of_a_plain_pair() -> int:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    room = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            send_fd(ends[0], encode(PLAIN), 0)
            room += 1
    for end in ends:
        end.close()
    return room


def test_a_full_queue_refuses_and_takes_again(queue: HandoffQueue) -> None:
    client = Client()
    room = 0
    while queue.give(client.server, PLAIN):
        room += 1
    assert room > 200
    assert room > room_of_a_plain_pair()
    assert queue.refusals == {"EAGAIN": 1}
    assert not queue.give(client.server, PLAIN)
    assert queue.refusals == {"EAGAIN": 2}
    client.server.send(b"here")  # it stayed with the giver
    client.server.close()
    while taken := queue.take():
        taken[0].close()
        room -= 1
    assert room == 0
    assert client.reads() == b"here"
    again = Client().given_to(queue)
    assert serve(queue) == 1
    assert again.reads() == b"served"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"octets": b"x" * (MAX_OCTETS + 1)}, "EMSGSIZE"), ({"deadline": math.nan}, "EINVAL")],
)
def test_what_cannot_be_written_stays(
    queue: HandoffQueue, changes: dict[str, object], reason: str
) -> None:
    client = Client()
    assert not queue.give(client.server, PLAIN._replace(**changes))
    assert queue.refusals == {reason: 1}
    assert queue.take() is None
    client.server.send(b"here")
    client.server.close()
    assert client.reads() == b"here"


def test_what_is_closed_is_not_given(queue: HandoffQueue) -> None:
    client = Client()
    client.server.close()
    assert not queue.give(client.server, PLAIN)
    assert queue.refusals == {"EBADF": 1}
    client.socket.close()


def test_after_the_end_nothing_is_given(queue: HandoffQueue) -> None:
    client = Client()
    queue.close()
    assert not queue.give(client.server, PLAIN)
    client.server.send(b"here")
    client.server.close()
    assert client.reads() == b"here"
    assert queue.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        queue.take()
    queue.close()


def test_spoiled_parcels_are_closed_and_passed_over(queue: HandoffQueue) -> None:
    raw = socket.socket(fileno=os.dup(queue.fds()[1]))
    spoiled: list[Callable[[socket.socket], object]] = [
        lambda sock: raw.send(encode(PLAIN)),
        lambda sock: raw.send(b""),
        lambda sock: send_fd(raw, b"rubbish", sock.fileno()),
        lambda sock: send_fd(raw, encode(PLAIN)[:-1], sock.fileno()),
        lambda sock: send_fd(raw, b"\2" + encode(PLAIN)[1:], sock.fileno()),
        lambda sock: send_fd(raw, encode(PARCELS[-1]) + b"x", sock.fileno()),
        lambda sock: send_fd(raw, encode(PLAIN), reading),
        lambda sock: send_fd(raw, encode(PLAIN), raw.fileno()),
        lambda sock: send_fd(raw, encode(PLAIN), datagrams.fileno()),
    ]
    reading, writing = os.pipe()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for send in spoiled:
        client = Client()
        send(client.server)
        client.server.close()
        good = Client().given_to(queue)
        before = open_descriptors()
        assert serve(queue) == 1
        assert open_descriptors() == before
        assert good.reads() == b"served"
        assert client.reads() == b""
    assert queue.spoiled == len(spoiled)
    for fd in (reading, writing):
        os.close(fd)
    datagrams.close()
    raw.close()


def test_surplus_descriptors_of_a_parcel_are_closed(queue: HandoffQueue) -> None:
    client = Client()
    raw = socket.socket(fileno=os.dup(queue.fds()[1]))
    send_many(raw, encode(PLAIN), [client.server.fileno()] * 7)
    client.server.close()
    assert serve(queue) == 1
    assert client.reads() == b"served"
    raw.close()


def test_a_flood_of_rubbish_does_not_hold_the_taker(queue: HandoffQueue) -> None:
    raw = socket.socket(fileno=os.dup(queue.fds()[1]))
    for _ in range(100):
        raw.send(b"rubbish")
    assert queue.take() is None
    assert 0 < queue.spoiled < 100
    assert queue.take() is None
    assert queue.spoiled == 100
    raw.shutdown(socket.SHUT_RDWR)  # EOF, for ever, is no endless loop
    assert queue.take() is None
    raw.close()


def test_without_a_free_descriptor_the_parcel_waits_for_a_sibling(queue: HandoffQueue) -> None:
    clients = [Client().given_to(queue) for _ in range(3)]

    def work() -> None:
        spare = os.dup(0)
        allow_no_more_descriptors()
        for _ in range(3):
            assert queue.take() is None
            assert queue.starved and not queue.spoiled
        os.close(spare)  # now there is room for one
        taken = queue.take()
        assert taken is not None and not queue.starved
        assert queue.take() is None and queue.starved
        taken[0].send(b"by the child")
        taken[0].close()
        assert queue.take() is not None
        # It ends without an answer to this one.

    in_a_child(work)
    assert serve(queue) == 1
    assert [client.reads() for client in clients] == [b"by the child", b"", b"served"]


def test_too_many_on_their_way_stay_where_they_are(queue: HandoffQueue) -> None:
    client = Client()

    def work() -> None:
        lose_privileges()
        allow_no_more_descriptors()  # which is also the bound of those on their way
        while queue.give(client.server, PLAIN):
            pass
        assert queue.refusals == {"ETOOMANYREFS": 1}
        client.server.send(b"here")

    in_a_child(work)
    client.server.close()
    while taken := queue.take():
        taken[0].close()
    assert client.reads() == b"here"


# ---- an upgrade


def test_a_queue_is_adopted_by_its_descriptors(queue: HandoffQueue) -> None:
    client = Client().given_to(queue, PARCELS[1])
    fds = [os.dup(fd) for fd in queue.fds()]
    for fd in fds:
        os.set_inheritable(fd, True)
        os.set_blocking(fd, True)
    adopted = HandoffQueue.adopt(*fds)
    assert adopted.fds() == tuple(fds)
    assert not any(map(os.get_inheritable, fds))
    assert not any(map(os.get_blocking, fds))
    other = Client().given_to(adopted)
    assert serve(adopted, b"new") == 2
    last = Client().given_to(adopted)
    adopted.close()
    assert serve(queue, b"old") == 1
    assert [it.reads() for it in (client, other, last)] == [b"new", b"new", b"old"]


def test_what_is_no_queue_is_not_adopted(queue: HandoffQueue) -> None:
    read_fd, write_fd = queue.fds()
    other = HandoffQueue.make()
    assert other is not None
    pipe = os.pipe()
    stream = socket.socketpair()
    unnamed = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    alone = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for fds in [
        (-1, -1), (99999, write_fd), (read_fd, 99999), (1 << 40, write_fd), (read_fd, -(1 << 70)),
        pipe, (read_fd, pipe[1]), (stream[0].fileno(), stream[1].fileno()),
        (unnamed[0].fileno(), unnamed[1].fileno()), (alone.fileno(), write_fd),
        (read_fd, alone.fileno()), (alone.fileno(), alone.fileno()), (read_fd, read_fd),
        (write_fd, write_fd), (write_fd, read_fd), (read_fd, other.fds()[1]),
        (other.fds()[0], write_fd),
    ]:  # fmt: skip
        before = open_descriptors()
        with pytest.raises((OSError, ValueError)):
            HandoffQueue.adopt(*fds)
        assert open_descriptors() == before
    client = Client().given_to(queue)  # it is as it was
    assert serve(queue) == 1
    assert client.reads() == b"served"
    other.close()
    for sock in (*stream, *unnamed, alone):
        sock.close()
    for fd in pipe:
        os.close(fd)
