"""When the master looks at workers that have requests, and never at others. Pure.

A worker says when it gets a request, at most once a second (Message.BUSY). So the master knows who
was busy in the last second, and may have grown, and it does not wake for workers that are idle.
"""

from collections.abc import Iterable

WEIGH_EVERY = 1.0
"""Seconds between two looks at the memory of the same worker."""

_COUNT_EVERY = 0.1  # seconds between two looks at who runs a call
_FORGET_AFTER = 1.2  # seconds: a little more than those between two BUSY of a worker
_NEVER = float("inf")


class Gauge:
    """``next_look``: when ``look`` must be called at the latest."""

    def __init__(self) -> None:
        self.next_look = _NEVER
        self._weighs = self._counts = False
        self._busy_at: dict[int, float] = {}  # by serial: when it last had a request
        self._weigh_at = 0.0

    def set_up(self, *, weighs: bool, counts: bool) -> None:
        """Whether anybody wants to know about memory, and about running calls."""
        self._weighs, self._counts = weighs, counts

    def busy(self, serial: int, now: float) -> None:
        """The worker said that it has got a request."""
        self._busy_at[serial] = now
        if self._weighs or self._counts:
            self.next_look = min(self.next_look, now + self._step())

    def look(self, running: Iterable[int], now: float) -> list[int]:
        """The serials of the workers whose memory is to be looked at now.

        ``running``: those that run a call. All that are gone drop out by themselves.
        """
        for serial in running:
            self._busy_at[serial] = now
        weigh: list[int] = []
        if self._weighs and now >= self._weigh_at:
            self._weigh_at = now + WEIGH_EVERY
            weigh = list(self._busy_at)
        recently = now - _FORGET_AFTER
        self._busy_at = {key: when for key, when in self._busy_at.items() if when > recently}
        self.next_look = now + self._step() if self._busy_at else _NEVER
        return weigh

    def _step(self) -> float:
        return _COUNT_EVERY if self._counts else WEIGH_EVERY
