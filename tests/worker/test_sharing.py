"""Who is given away, and when: rows of a scoreboard, and requests that wait."""

from collections.abc import Iterator

import pytest

from forkserve.ops.scoreboard import Scoreboard
from forkserve.worker.environs import Environs
from forkserve.worker.handoff import HandoffQueue
from forkserve.worker.sharing import Sharing
from forkserve.worker.state import State
from tests.worker.peer import GET, Peer


def hello(environ: object, start_response: object) -> list[bytes]:
    raise AssertionError("nobody is called here")


class Pair:
    """A worker whose only thread is in a call, its sibling, and requests that wait here."""

    def __init__(self, queue: HandoffQueue, waiting: int) -> None:
        board = Scoreboard(2)
        self.peers = [Peer(hello) for _ in range(waiting)]
        base = self.peers[0].connection.base
        environs = Environs(lambda name, tls: base)
        environs.of(("127.0.0.1", "8000"))
        for index in (0, 1):
            board.row(index).take(1)
            board.row(index).set_serving(True)
        self.sibling_idle = board.row(1).idle_mark()
        self.sibling_idle[0] = 1
        self.sharing = Sharing(queue, board.row(0), environs)
        for peer in self.peers:
            peer.connection.base = base
            peer.service.lead.set_calls(False)
            peer.send(GET)
            assert peer.state is State.READY

    def given(self, waited: float, busy: float) -> int:
        """How many are given away, if they have waited so long, and no thread was free so long."""
        now = self.peers[0].clock.now + waited
        connections = [peer.connection for peer in self.peers]
        return len(self.sharing.relieve(connections, now, busy))


@pytest.fixture
def queue() -> Iterator[HandoffQueue]:
    queue = HandoffQueue.make()
    assert queue is not None
    yield queue
    queue.close()


def test_an_idle_sibling_is_given_one_at_once(queue: HandoffQueue) -> None:
    assert Pair(queue, 3).given(0.0, 0.0) == 1


@pytest.mark.parametrize(
    ("waited", "busy", "given"), [(0.5, 0.5, 3), (0.001, 0.5, 0), (0.5, 0.001, 0)]
)
def test_a_busy_one_is_given_those_that_wait_for_a_long_call(
    queue: HandoffQueue, waited: float, busy: float, given: int
) -> None:
    """And none that wait behind many short ones, as they would there."""
    pair = Pair(queue, 3)
    pair.sibling_idle[0] = 0
    assert pair.given(waited, busy) == given
