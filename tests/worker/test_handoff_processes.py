"""Workers that give and take connections, and are killed while they do: each client is served once,
or its connection is closed; none is left hanging."""

import os
import select
import socket
from collections.abc import Callable

import pytest

from forkserve.worker.handoff import HandoffQueue
from tests.descriptors import open_descriptors
from tests.worker.siblings import PLAIN, Client, Process, serve

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def taker(queue: HandoffQueue) -> Callable[[Callable[[], object]], None]:
    """It polls, takes one, answers, and closes; it pauses before each."""

    def work(pause: Callable[[], object]) -> None:
        poll = select.epoll()
        poll.register(queue.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
        poll.poll()
        pause()
        taken = queue.take()
        assert taken is not None
        pause()
        taken[0].send(b"by the taker")
        pause()
        taken[0].close()
        pause()

    return work


@pytest.mark.parametrize(
    ("step", "heard", "left"),
    [
        (1, b"served", 1),  # polled: a sibling takes it
        (2, b"", 0),  # taken: closed
        (3, b"by the taker", 0),  # answered
        (4, b"by the taker", 0),
    ],
)
def test_a_taker_that_is_killed(queue: HandoffQueue, step: int, heard: bytes, left: int) -> None:
    process = Process(taker(queue))
    client = Client().given_to(queue)
    process.reached()
    for _ in range(step - 1):
        process.go_on()
        process.reached()
    process.end()
    assert serve(queue) == left
    assert client.reads() == heard


@pytest.mark.parametrize(
    ("step", "heard", "taken"),
    [
        (1, b"", 0),  # not given yet: closed
        (2, b"served", 1),  # given, and still open in the giver
        (3, b"served", 1),  # given and closed
    ],
)
def test_a_giver_that_is_killed(queue: HandoffQueue, step: int, heard: bytes, taken: int) -> None:
    client = Client()

    def work(pause: Callable[[], object]) -> None:
        pause()
        assert queue.give(client.server, PLAIN)
        pause()
        client.server.close()
        pause()

    process = Process(work)
    client.server.close()
    process.reached()
    for _ in range(step - 1):
        process.go_on()
        process.reached()
    process.end()
    assert serve(queue) == taken
    assert client.reads() == heard


def test_a_connection_lives_on_though_the_giver_still_has_it(queue: HandoffQueue) -> None:
    client = Client()
    assert queue.give(client.server, PLAIN)
    taken = queue.take()
    assert taken is not None
    client.server.close()  # late
    for _ in range(3):
        client.socket.send(b"ping")
        select.select([taken[0]], [], [], 30)
        assert taken[0].recv(10) == b"ping"
        taken[0].send(b"pong")
        assert client.socket.recv(10) == b"pong"
    taken[0].close()
    assert client.reads() == b""


def test_when_nobody_has_the_queue_the_kernel_closes_what_is_in_it(queue: HandoffQueue) -> None:
    def work(pause: Callable[[], object]) -> None:
        pause()

    process = Process(work)
    process.reached()
    clients = [Client().given_to(queue) for _ in range(20)]
    queue.close()
    process.end()
    # Octets that were never read make it a reset, and there are none.
    assert [client.reads() for client in clients] == [b""] * 20


# ---- many at once


def test_many_givers_and_many_takers_lose_and_double_nothing(queue: HandoffQueue) -> None:
    """8 takers, 8 givers, 2,000 connections each: every one is answered once, with its own octets."""
    each, ahead = 2000, 20

    def take(pause: Callable[[], object]) -> None:
        before = open_descriptors()
        poll = select.epoll()
        poll.register(queue.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
        while True:
            poll.poll()
            while taken := queue.take():
                sock, parcel = taken
                if parcel.octets == b"end":
                    while not queue.give(sock, parcel):
                        pass
                    poll.close()
                    sock.close()
                    assert open_descriptors() == before and not queue.spoiled
                    pause()
                    return
                sock.send(parcel.octets)
                sock.close()

    def give(pause: Callable[[], object]) -> None:
        before = open_descriptors()
        number = os.getpid() << 20
        for _ in range(each // ahead):
            clients = []
            for _ in range(ahead):
                number += 1
                here, there = socket.socketpair()
                while not queue.give(there, PLAIN._replace(octets=b"%d" % number)):
                    pass
                there.close()
                clients.append((here, b"%d" % number))
            for here, expected in clients:
                here.settimeout(30)
                assert here.recv(100) == expected
                assert here.recv(100) == b""
                here.close()
        assert open_descriptors() == before
        pause()

    takers = [Process(take) for _ in range(8)]
    givers = [Process(give) for _ in range(8)]
    for process in givers:
        process.reached()
    assert queue.take() is None
    stop = Client().given_to(queue, PLAIN._replace(octets=b"end"))
    for process in (*givers, *takers):
        if process in takers:
            process.reached()
        process.go_on()
        process.end(kill=False)
    assert serve(queue) == 1
    assert stop.reads() == b"served"
