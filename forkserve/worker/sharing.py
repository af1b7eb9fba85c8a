"""What goes out of a worker: connections that a sibling serves sooner, or that outlive this worker.

*Relief*: what waits for a thread behind long calls is given away, at once to a sibling that is
idle, and, while no thread is free here, to whoever comes first after a while. If nobody comes until
its deadline, whoever has given it away calls it back, and answers. *Retirement*: every connection
between two requests is given to those that stay.
"""

from collections.abc import Iterable

from forkserve.ops.scoreboard import Row
from forkserve.ops.tally import GIVEN, NOT_GIVEN
from forkserve.worker.connection import Connection
from forkserve.worker.environs import Environs
from forkserve.worker.handoff import HandoffQueue

_NEVER = float("inf")

AGAIN = 0.005
"""Seconds after which it is tried again for those that nobody could take."""

# Seconds after which a request goes to any sibling, as if it had just come: the running calls are
# of the long ones. Before that it is likelier to be served here, and costs no hand-off. Not so if
# it is the queue that is long, and no call: siblings may have one, too, and would exchange them.
_LONG_WAIT = 0.01


class Sharing:
    """Used by the thread that leads."""

    def __init__(self, queue: HandoffQueue, row: Row, environs: Environs) -> None:
        self._queue = queue
        self._row = row
        self._environs = environs
        self._recall_at = _NEVER  # when the first of those that were given is to be answered

    @property
    def possible(self) -> bool:
        """There is somebody who would take what is given."""
        return self._row.has_siblings()

    @property
    def helped(self) -> bool:
        """A sibling is free for a request. For any thread."""
        return self._row.idle_siblings() > 0

    def withdraw(self) -> None:
        """This worker takes nothing more."""
        self._row.set_serving(False)
        self._recall_at = _NEVER

    def relieve(self, waiting: Iterable[Connection], now: float, busy: float) -> list[Connection]:
        """Give away of ``waiting``, which are READY, what others serve sooner. Returns what went;
        the caller forgets it without another word to the client.

        ``busy``: for so many seconds no thread has become free.
        """
        idle = self._row.idle_siblings()
        to_anybody = busy >= _LONG_WAIT and self._row.has_siblings()
        given = []
        for connection in waiting:
            late = to_anybody and now - connection.arrived >= _LONG_WAIT
            if not (idle or late) or not connection.portable or connection.deadline <= now:
                continue
            if not self.give(connection):
                break  # there is no room in the queue
            given.append(connection)
            self._recall_at = min(self._recall_at, connection.deadline)
            idle = max(0, idle - 1)
        return given

    def again(self, waiting: Iterable[Connection], now: float) -> float:
        """When to try again for ``waiting``, or to see what became of those that were given."""
        retry = now + AGAIN if any(item.portable for item in waiting) else _NEVER
        return min(retry, self._recall_at)

    def recalls(self, now: float) -> bool:
        """The deadline has come of some that were given: if they are still on their way, they are
        to be taken back."""
        if now < self._recall_at:
            return False
        self._recall_at = _NEVER
        return True

    def give(self, connection: Connection) -> bool:
        """Give it away, if there is room in the queue. It is portable."""
        listener = " ".join(self._environs.name_of(connection.base))
        service = connection.service
        given = self._queue.give(connection.socket, connection.parcel(listener))
        service.tally.add(GIVEN if given else NOT_GIVEN)
        if not given:
            service.tell_once(
                f"a connection stays in this worker for want of a place to hand it off to "
                f"({self._queue.refusal}), and is served here; `forkservectl status --json` counts "
                "these as not_given"
            )
        return given
