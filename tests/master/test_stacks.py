"""Stacks that are asked for: one order at a time, and a file for each worker."""

import os
from collections.abc import Iterator

import pytest

from forkserve.master.stacks import NOT_WRITTEN, Stacks
from forkserve.net.fdpass import receive_fd
from forkserve.proc.channel import LARGEST, Channel, Message

pytestmark = pytest.mark.usefixtures("nothing_leaks")

_PID = 2**22 + 1  # which no process can have, so nobody gets a signal


class Worker:
    """One worker, with the master's side of its stacks."""

    def __init__(self) -> None:
        self.orders: list[tuple[int, Message]] = []
        self.told: list[tuple[str, str]] = []
        self.stacks = Stacks(lambda serial, message: self.orders.append((serial, message)))
        ours, theirs = Channel.pair()
        self.stacks.equip(1, ours)
        _, fd = receive_fd(theirs.sock, LARGEST)
        assert fd is not None
        self.file = fd
        ours.close()
        theirs.close()

    def ask(self, now: float) -> None:
        self.stacks.ask(
            1, _PID, False, lambda text, why_not: self.told.append((text, why_not)), now
        )

    def write(self, text: str) -> None:
        os.write(self.file, text.encode())

    def close(self) -> None:
        self.stacks.close()
        os.close(self.file)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def test_what_the_worker_has_written_is_told(worker: Worker) -> None:
    worker.ask(10.0)
    worker.ask(10.0)
    worker.write("where it stands\n")
    worker.stacks.written(1)
    assert worker.told == [("where it stands", "")] * 2
    assert worker.orders == [(1, Message.STACKS)]


def test_a_worker_that_has_not_come_to_one_order_gets_no_other(worker: Worker) -> None:
    """It would carry out both, one behind the other, and the second into what the first has
    written."""
    worker.ask(10.0)
    worker.stacks.look(12.0)
    assert worker.told == [("", NOT_WRITTEN)]
    worker.ask(13.0)
    assert len(worker.orders) == 1
    worker.write("where it stands\n")
    worker.stacks.written(1)
    assert worker.told[1:] == [("where it stands", "")]
    worker.ask(14.0)
    assert len(worker.orders) == 2


def test_a_worker_that_is_gone_is_told_of(worker: Worker) -> None:
    worker.ask(10.0)
    worker.stacks.gone(1)
    assert worker.told == [("", "it has ended")]
    worker.ask(11.0)
    assert worker.told[1:] == [("", NOT_WRITTEN)]
