"""Two servers at once on one processor: how they differ, where the difference is small.

In turns each has other moments of the machine, and on a shared one moments differ by more than most
changes matter. At once, both have equal shares of the same moments, and whoever needs less of the
processor for a request answers more, as long as wrk, which has one for both, keeps up. For each
round both are started anew: where their memory happens to lie matters by a percent or two.
"""

import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.scenarios import Scenario
from benchmarks.servers import Running, Server, descendants
from benchmarks.wrk import SERVER_CPU, load


class Ratio(NamedTuple):
    """Of the first server to the second: the median of the rounds, and the quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Ratio":
        if len(values) == 1:
            return cls(*values * 3)
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


class Comparison(NamedTuple):
    """``requests`` answered in the same time, and ``processor_time`` for one of them."""

    requests: Ratio
    processor_time: Ratio


def compare(
    servers: tuple[Server, Server], scenario: Scenario, rounds: int, seconds: int, connections: int
) -> Comparison:
    """``connections`` of each. Raises RuntimeError if one does not start, or answers wrongly."""
    requests, times = [], []
    for number in range(rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)  # who has the first place
        with _running([servers[index] for index in order], scenario) as running:
            _answered(running, scenario, 1, connections)  # to warm up
            before = [processor_time(item) for item in running]
            counts = _answered(running, scenario, seconds, connections)
            spent = [
                processor_time(item) - time for item, time in zip(running, before, strict=True)
            ]
        first, second = order.index(0), order.index(1)
        requests.append(counts[first] / counts[second])
        times.append(spent[first] / counts[first] / (spent[second] / counts[second]))
        print(
            f"{scenario.name:11} {number + 1}/{rounds} requests {requests[-1]:.3f}, "
            f"processor time {times[-1]:.3f}",
            file=sys.stderr,
        )
    return Comparison(Ratio.of(requests), Ratio.of(times))


@contextmanager
def _running(servers: Sequence[Server], scenario: Scenario) -> Iterator[list[Running]]:
    with ExitStack() as stack:
        running = []
        for server in servers:
            item = Running(server, SERVER_CPU)
            stack.callback(item.stop)
            running.append(item)
        for item in running:
            try:
                item.wait()
                problem = scenario.check(item.port)
            except TimeoutError as error:
                problem = str(error)
            if problem is not None:
                raise RuntimeError(f"{item.server.name}, {scenario.name}: {problem}")
        yield running


def _answered(
    running: Sequence[Running], scenario: Scenario, seconds: int, connections: int
) -> list[int]:
    """How many requests each has answered, asked at once."""
    with ExitStack() as stack:
        loads = [
            stack.enter_context(load(scenario, item.port, seconds, connections)) for item in running
        ]
        results = [item.end() for item in loads]
    for item, (_, _, errors) in zip(running, results, strict=True):
        if errors:
            raise RuntimeError(f"{item.server.name}, {scenario.name}: {errors}")
    return [count for count, _, _ in results]


def processor_time(running: Running) -> int:
    """Nanoseconds that the threads of a server that are there have had so far."""
    return sum(
        int((task / "schedstat").read_text().split()[0])
        for pid in (running.process.pid, *descendants(running.process.pid))
        for task in Path(f"/proc/{pid}/task").iterdir()
    )
