"""The end of a file that was sent: its ``close``, which is the application's, and takes its time.

A call like any other, but nobody waits for its response.
"""

from forkserve.errors import in_a_line, traceback_of
from forkserve.ops.scoreboard import Cell
from forkserve.ops.statsd import OF_APPLICATION
from forkserve.worker.exchange import OWN_MODULES
from forkserve.worker.lead import Lost, overdue
from forkserve.worker.service import Service
from forkserve.worker.state import State

_NEVER = float("inf")


class Closing:
    """One ``close`` that runs. Where it outlasts its lead, the loop watches it as it does a
    connection whose call runs (``lead.InCall``)."""

    __slots__ = ("_line", "_request_id", "_service", "cell", "deadline", "state", "wake_at")

    def __init__(
        self, service: Service, cell: Cell, line: str, request_id: str, now: float
    ) -> None:
        self._service = service
        self._line = line
        self._request_id = request_id
        self.cell = cell
        self.state = State.RUNNING
        self.deadline = now + service.timeout
        self.wake_at = _NEVER

    def count(self) -> None:
        """It is no connection, so it is not counted as one."""

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        if overdue(self.cell, now):
            self._service.report_stuck(self.cell, self._line, self._request_id)
            self.cell.end()
            self.state = State.CLOSED
        self.deadline = self.cell.deadline or _NEVER

    def returned(self) -> None:
        """It is over, in a thread that did not lead any more."""
        self.state = State.CLOSED


def close_files(service: Service) -> None:
    """Close what was sent of files; its errors are the application's, too. Raises Lost."""
    while service.closings:
        wrapper, line, request_id = service.closings.popleft()
        lead = service.lead
        offer, cell, now = lead.offer, lead.cell, service.clock()
        lead.in_call = closing = Closing(service, cell, line, request_id, now)
        cell.begin(service.timeout, now, line)
        if lead.awaited:
            lead.rouse()
        offer.append(None)
        try:
            getattr(wrapper, "close", _nothing)()
        except BaseException as raised:
            if service.forked:
                raise
            what, trace = in_a_line(raised), traceback_of(raised, OWN_MODULES)
            service.log.error(
                "after the response to %.200r the application raised %s\n%s", line, what, trace,
                extra={**OF_APPLICATION, "request_id": request_id},
            )  # fmt: skip
        service.end_child()
        cell.end()
        try:
            offer.pop()
        except IndexError:
            lead.judge(service.clock() - now)
            raise Lost(closing) from None
        closing.state = State.CLOSED


def _nothing() -> None:
    """The ``close`` of what has none."""
