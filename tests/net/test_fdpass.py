"""A descriptor beside octets: it arrives once, close-on-exec, and none is ever left over."""

import errno
import os
import resource
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserve.net.fdpass import Truncated, receive_fd, send_fd
from tests.descriptors import (
    allow_no_more_descriptors,
    in_a_child,
    lose_privileges,
    open_descriptors,
    send_many,
)

pytestmark = pytest.mark.usefixtures("nothing_leaks")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair(nothing_leaks: None) -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


def send_until_refused(sock: socket.socket) -> tuple[int, int | None]:
    """How many messages went, and the errno of the one that did not."""
    sent = 0
    while True:
        try:
            send_fd(sock, b"x", sock.fileno())
        except OSError as error:
            return sent, error.errno
        sent += 1


@given(octets=st.binary(min_size=1, max_size=5000))
def test_octets_and_descriptor_arrive_together(octets: bytes) -> None:
    giver, taker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    send_fd(giver, octets, writing)
    os.close(writing)
    received, fd = receive_fd(taker, 5000)
    assert received == octets
    assert fd is not None and not os.get_inheritable(fd)
    os.write(fd, b"x")
    os.close(fd)
    assert os.read(reading, 10) == b"x"
    assert os.read(reading, 10) == b""  # there is no other copy
    os.close(reading)
    giver.close()
    taker.close()


def test_messages_stay_apart_and_keep_their_order(pair: Pair) -> None:
    for number in range(10):
        send_fd(pair[0], b"%d" % number, pair[0].fileno())
    for number in range(10):
        octets, fd = receive_fd(pair[1], 100)
        assert octets == b"%d" % number and fd is not None
        os.close(fd)


@pytest.mark.parametrize("blocking", [True, False])
def test_neither_side_ever_blocks(pair: Pair, blocking: bool) -> None:
    for end in pair:
        end.setblocking(blocking)
    with pytest.raises(BlockingIOError):
        receive_fd(pair[1], 100)
    assert send_until_refused(pair[0])[1] == errno.EAGAIN


def test_octets_without_a_descriptor(pair: Pair) -> None:
    pair[0].send(b"alone")
    assert receive_fd(pair[1], 100) == (b"alone", None)


def test_the_other_side_is_gone(pair: Pair) -> None:
    pair[0].close()
    assert receive_fd(pair[1], 100) == (b"", None)
    with pytest.raises(BrokenPipeError):
        send_fd(pair[1], b"x", 0)


@pytest.mark.parametrize("count", [2, 3, 252, 253])
def test_surplus_descriptors_are_closed(pair: Pair, count: int) -> None:
    before = open_descriptors()
    send_many(pair[0], b"many", [pair[0].fileno()] * count)
    octets, fd = receive_fd(pair[1], 100)
    assert octets == b"many" and fd is not None
    os.close(fd)
    assert open_descriptors() == before


def test_a_message_that_is_too_long_leaves_no_descriptor(pair: Pair) -> None:
    before = open_descriptors()
    send_fd(pair[0], b"x" * 101, pair[0].fileno())
    with pytest.raises(Truncated) as caught:
        receive_fd(pair[1], 100)
    assert caught.value.errno == errno.EMSGSIZE
    assert open_descriptors() == before
    with pytest.raises(BlockingIOError):  # it is gone, whole
        receive_fd(pair[1], 100)


@pytest.mark.parametrize("count", [1, 5])
def test_a_receiver_without_room_is_told_so(pair: Pair, count: int) -> None:
    send_many(pair[0], b"x", [pair[0].fileno()] * count)
    send_fd(pair[0], b"next", pair[0].fileno())

    def work() -> None:
        allow_no_more_descriptors()
        with pytest.raises(Truncated) as caught:
            receive_fd(pair[1], 100)
        assert caught.value.errno == errno.EMFILE
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        before = open_descriptors()
        octets, fd = receive_fd(pair[1], 100)
        assert octets == b"next" and fd is not None
        assert open_descriptors() == before + 1

    in_a_child(work)
    with pytest.raises(BlockingIOError):
        receive_fd(pair[1], 100)


def test_room_for_some_of_several_is_no_room(pair: Pair) -> None:
    send_many(pair[0], b"x", [pair[0].fileno()] * 5)

    def work() -> None:
        spare = [os.dup(0) for _ in range(2)]
        allow_no_more_descriptors()
        for fd in spare:
            os.close(fd)
        with pytest.raises(Truncated) as caught:
            receive_fd(pair[1], 100)
        assert caught.value.errno == errno.EMFILE
        assert [os.dup(0) for _ in spare] == spare  # both were closed again

    in_a_child(work)


def test_too_many_on_their_way(pair: Pair) -> None:
    """The limit is the user's, and root has none."""

    def work() -> None:
        lose_privileges()
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        sent, refusal = send_until_refused(pair[0])
        assert refusal == errno.ETOOMANYREFS
        assert sent <= 61
        for _ in range(sent):
            fd = receive_fd(pair[1], 100)[1]
            assert fd is not None
            os.close(fd)
        send_fd(pair[0], b"again", pair[0].fileno())

    in_a_child(work)


@pytest.mark.parametrize("fd", [-1, 99999])
def test_what_is_no_descriptor_is_not_sent(pair: Pair, fd: int) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        send_fd(pair[0], b"x", fd)
    with pytest.raises(BlockingIOError):
        receive_fd(pair[1], 100)
