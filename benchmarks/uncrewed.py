"""forkserve without its crew: what remains if nobody could ever take the lead.

The code as it is, and in it what stands in the way of a small request for the crew alone is taken
out: the offer of the lead during a call, the turns that are counted and watched, the order in which
requests wait for a thread, the verdicts of threads that have lost the lead, and the thread that
stands by.
For ``make soak`` (``crew-cost``), which measures what they cost.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import ROOT, Server, of_tree
from forkserve.worker.lead import CALM

# (module, what stands there once, what in its place)
_PLACES = (
    (
        "connection",
        """\
            lead = self.service.lead
            inline = now >= lead.inline_from
            if inline or not lead.calls:
                self._parse(octets, now, inline)
            else:
                self._wait_for_turn(octets, now)
""",
        """\
            self._parse(octets, now, True)
""",
    ),
    (
        "connection",
        """\
        lead = service.lead
        offer = lead.offer
        self.cell = cell = lead.cell
        lead.in_call = self
""",
        """\
        self.cell = cell = service.lead.cell
""",
    ),
    (
        "connection",
        """\
        if lead.awaited:
            lead.rouse()
        offer.append(None)
""",
        "",
    ),
    (
        "connection",
        """\
        try:
            offer.pop()
        except IndexError:
            lead.judge(service.clock() - now)
            raise Lost(self if service.decide(exchange, OVER) else None) from None
""",
        "",
    ),
    (
        "connection",
        """\
        if busy >= BRIEF and service.lead.in_call is self:
            service.lead.note(service.requests, exchange.returned + busy)
""",
        "",
    ),
    (
        "intake",
        """\
            if not inline:
                self._wait_for_turn(octets, now)
                return
""",
        "",
    ),
    (
        "loop",
        """\
        if lead.returned:
            self._settle_returned()
            wait = False  # it may have been the last
""",
        "",
    ),
    (
        "loop",
        """\
        if not wait or (lead.calls and (self._ready or service.closings)):
            timeout = 0.0
""",
        """\
        if not wait or self._ready or service.closings:
            timeout = 0.0
""",
    ),
    (
        "loop",
        """\
        lead.turns += 1
        self._idle[0] = lead.calls and timeout != 0.0
        events = self._epoll.poll(timeout, most)
        self._idle[0] = 0
        lead.turns += 1
        if lead.alert:
            lead.rouse()
""",
        """\
        events = self._epoll.poll(timeout, most)
""",
    ),
    (
        "exchange",
        """\
        if service.verdicts:
            self._raise_if_revoked()
        return service.own_lines""",
        """\
        return service.own_lines""",
    ),
    (
        "crew",
        """\
            threading.Thread(target=self._stand_by, name="standby", daemon=True).start()
""",
        "",
    ),
)


_HALF = (("lead", f"CALM = {CALM}\n", f"CALM = {2 * CALM}\n"),)
"""Two servers on one processor have half of it each, but the standby looks as often as with all of
it, which would be twice as often for each request: so here it looks half as often."""


@contextmanager
def crewed_and_not() -> Iterator[tuple[Server, Server]]:
    """The server as it is, and without its crew, both from a copy of now.

    Raises LookupError if a place is not as it is known here.
    """
    with (
        tempfile.TemporaryDirectory(prefix="forkserve-crewed-") as other,
        tempfile.TemporaryDirectory(prefix="forkserve-uncrewed-") as place,
    ):
        _copy(Path(other), _HALF)
        _copy(Path(place), _PLACES)
        yield (
            of_tree("with its crew", sys.executable, Path(other)),
            of_tree("without a crew", sys.executable, Path(place)),
        )


def _copy(place: Path, changes: Iterable[tuple[str, str, str]]) -> None:
    """The package as it is now, with changes. Raises LookupError."""
    ignored = shutil.ignore_patterns("*.pyc")
    shutil.copytree(ROOT / "forkserve", place / "forkserve", ignore=ignored)
    for module, there, instead in changes:
        path = place / "forkserve" / "worker" / f"{module}.py"
        text = path.read_text()
        if text.count(there) != 1:
            raise LookupError(f"worker/{module}.py has not once, but is known to have:\n{there}")
        path.write_text(text.replace(there, instead))
