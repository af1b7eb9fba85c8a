"""What the master tells those who look at the scoreboard: who the workers are, how others have
ended, what became of reloads. Only the master writes it; nothing is decided by it.
"""

import json
import os
from collections import Counter

from forkserve import __version__
from forkserve.errors import EXIT_OK
from forkserve.master.generation import Generation
from forkserve.master.roster import Phase, Worker
from forkserve.master.story import Life
from forkserve.master.supervisor import Supervisor
from forkserve.ops.scoreboard import Row, Scoreboard

REASONS = (
    "max_requests", "max_lifetime", "max_rss", "reload", "retired", "died", "killed", "boot failed",
)  # fmt: skip
"""Why workers end. All are there from the beginning: whoever looks at the growth of a counter does
not see the first step of one that begins with it."""


class Record:
    """``restarts``: workers that have ended, by reason."""

    def __init__(self, board: Scoreboard, now: float) -> None:
        """The server begins at ``now`` (monotonic seconds)."""
        self._board = board
        self._since = now
        self._born: dict[int, float] = {}  # by serial
        self._last_end: dict[int, str] = {}  # by slot
        self._ends: Counter[int] = Counter()  # by slot
        self._text = b""
        self.restarts: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.reloads = 0
        self.refused = 0

    def ended(self, worker: Worker, status: int, how: str, current: int) -> None:
        """A worker has ended, with this exit status; ``how`` puts it into words. ``current``: the
        generation in force."""
        if worker.phase is Phase.BOOTING:
            reason = "boot failed"
        elif worker.killed:
            reason = "killed"
        elif not (worker.leaving and status == EXIT_OK):
            reason = "died"
        elif worker.generation < current:
            reason = "reload"
        else:
            reason = worker.cause or "retired"
        self.restarts[reason] += 1
        self._ends[worker.slot] += 1
        self._last_end[worker.slot] = reason if status == EXIT_OK else f"{reason}: {how}"
        self._born.pop(worker.serial, None)

    def write(
        self,
        supervisor: Supervisor,
        generation: Generation,
        rows: dict[int, Row],
        now: float,
        ended: Row | None = None,
        *,
        draining: bool = False,
    ) -> None:
        """Put it on the scoreboard, if it is not what stands there. ``rows``: by serial.

        ``ended``: that of a worker that is gone. ``draining``: it is about to stop.
        """
        settings = generation.settings
        scheme = "http" if generation.tls is None else "https"
        server = {
            "pid": os.getpid(),
            "version": __version__,
            "app": settings.app,
            "name": settings.name or settings.app,
            "state": "draining" if draining else supervisor.life.name.lower(),
            "reload": supervisor.reload.name.lower(),
            "generation": supervisor.generation,
            "since": self._since,
            "wanted": supervisor.wanted,
            "least": settings.workers.least,
            "most": settings.workers.most,
            "reloads": self.reloads,
            "reloads_refused": self.refused,
            "restarts": dict(sorted(self.restarts.items())),
            "vacant": self._vacant(supervisor),
            "listeners": [
                {"address": listener.url_of(scheme), "waiting": waiting, "backlog": most}
                for listener in generation.listeners
                for waiting, most in (listener.queue(),)
            ],
        }
        workers = [
            {
                "row": worker.row,
                "slot": worker.slot,
                "pid": worker.pid,
                "generation": worker.generation,
                "state": worker.phase.name.lower(),
                "since": self._born.setdefault(worker.serial, now),
                "restarts": self._ends[worker.slot],
                "last_end": self._last_end.get(worker.slot, ""),
            }
            for worker in supervisor.roster.in_phase(*Phase)
            if worker.serial in rows
        ]
        text = json.dumps({"server": server, "workers": workers}).encode("ascii")
        if text != self._text or ended is not None:
            self._text = text
            self._board.write(text, ended=[] if ended is None else [ended.index])

    def _vacant(self, supervisor: Supervisor) -> list[dict[str, object]]:
        """The slots whose worker has ended, and that wait for another."""
        if supervisor.life is not Life.UP:
            return []
        roster = supervisor.roster
        return [
            {
                "slot": slot,
                "restarts": self._ends[slot],
                "last_end": self._last_end[slot],
                "due": roster.not_before(slot),
            }
            for slot in roster.vacant(supervisor.wanted, supervisor.generation)
            if slot in self._last_end
        ]
