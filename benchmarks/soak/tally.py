"""What became of the requests: the figures of one population, and the verdict over all."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

COLUMNS = (
    "right", "wrong_status", "wrong_body", "fin", "reset", "timeout", "refused",
    "announced", "idle_fin", "idle_reset",
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    """Counts of one population in one phase. A request is in exactly one of the first six.

    ``fin``, ``reset``     the connection ended with a request under way
    ``timeout``            no whole answer within the client's patience
    ``refused``            no connection; the request was never sent
    ``announced``          closes that a response announced with ``Connection: close``
    ``idle_fin``, ``idle_reset``  closes between two requests, without a word
    ``p50`` ... ``longest``  milliseconds from the last octet of a request that was right (or from
                           when it was due, if there was no connection) to the first of its answer
    ``gap``                longest time between two right answers, milliseconds
    """

    right: int = 0
    wrong_status: int = 0
    wrong_body: int = 0
    fin: int = 0
    reset: int = 0
    timeout: int = 0
    refused: int = 0
    announced: int = 0
    idle_fin: int = 0
    idle_reset: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    longest: float = 0.0
    gap: float = 0.0

    @property
    def lost(self) -> int:
        """Requests that were sent, and were not answered as they had to be."""
        return self.wrong_status + self.wrong_body + self.fin + self.reset + self.timeout

    @property
    def closed(self) -> int:
        """Connections that the server ended, requests under way or not."""
        ends = self.announced + self.idle_fin + self.idle_reset
        return ends + self.fin + self.reset

    def measure(self, seconds: Iterable[float]) -> None:
        """Take the percentiles of these latencies."""
        ordered = sorted(seconds)
        if ordered:
            self.p50, self.p99, self.p999, self.longest = (
                round(1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)], 2)
                for share in (0.5, 0.99, 0.999, 1.0)
            )


@dataclass(slots=True)
class Verdict:
    """``phases``: phase -> population -> tally.

    ``twice``: ids that the application saw more than once. ``unseen``: ids that were answered, and
    that the application has not seen. ``vanished``: of the lost, those that it has not seen.
    """

    phases: dict[str, dict[str, Tally]] = field(default_factory=dict)
    twice: int = 0
    unseen: int = 0
    vanished: int = 0

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "Verdict":
        """What ``dataclasses.asdict`` made of one."""
        phases = {
            phase: {name: Tally(**tally) for name, tally in tallies.items()}
            for phase, tallies in values["phases"].items()
        }
        return cls(phases, values["twice"], values["unseen"], values["vanished"])

    def all(self, *names: str) -> Tally:
        """The counts of all phases, of these populations or of all (not the times)."""
        total = Tally()
        for tallies in self.phases.values():
            for name, tally in tallies.items():
                if not names or name in names:
                    for column in COLUMNS:
                        setattr(total, column, getattr(total, column) + getattr(tally, column))
        return total

    def table(self) -> str:
        """For people: a row a population and phase, with what is not zero."""
        lines = []
        for phase, tallies in self.phases.items():
            for name, tally in tallies.items():
                counts = ", ".join(
                    f"{getattr(tally, column)} {column.replace('_', ' ')}"
                    for column in COLUMNS
                    if getattr(tally, column)
                )
                times = (
                    f"p50 {tally.p50:.2f}, p99 {tally.p99:.2f}, p99.9 {tally.p999:.2f}, "
                    f"longest {tally.longest:.2f}, gap {tally.gap:.0f} ms"
                )
                lines.append(f"{phase:>8} {name:<12} {counts or 'nothing'}; {times}")
        lines.append(f"seen twice {self.twice}, answered unseen {self.unseen}")
        return "\n".join(lines)


def as_dict(verdict: Verdict) -> dict[str, Any]:
    return dataclasses.asdict(verdict)
