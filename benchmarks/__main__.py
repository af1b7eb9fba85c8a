"""``make bench``: install the peers, check their answers, time them in interleaved rounds.

Each server has one worker and one processor, wrk has another. In each round every server is timed
once, one after the other, so that a slow minute of the machine hits all of them; what counts are
the ratios within a round, and of those the medians. ``--against`` compares forkserve with what it
was, both at once (``side_by_side``).
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import chart, footprint, report
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.servers import SERVERS, Running, Server, earlier, install, need
from benchmarks.side_by_side import compare
from benchmarks.wrk import SERVER_CPU, load

HERE = Path(__file__).parent


def main() -> None:
    """Parse the command line, measure, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--scenario", action="append", help="only this one; repeatable")
    parser.add_argument("--server", action="append", help="only this one; repeatable")
    parser.add_argument("--against", metavar="REVISION", help="only forkserve, now and then")
    parser.add_argument(
        "--out", type=Path, default=HERE, help="directory for results.json, .svg and README.rst"
    )
    parser.add_argument("--no-footprint", action="store_true", help="no start-up time and memory")
    options = parser.parse_args()
    need("wrk")
    need("taskset")
    versions = install()
    servers = [item for item in SERVERS if not options.server or item.name in options.server]
    servers = [item for item in servers if item.package in versions]
    if options.against:
        with earlier(options.against) as before:
            against((SERVERS[0], before), options)
        return
    results = times(servers, versions, options)
    print(table(results))
    if not options.no_footprint:
        results["footprint"] = footprint.measure(servers)
        print(footprint.table(results["footprint"]))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "results.svg").write_text(chart.draw(results))
    if not (options.scenario or options.server or options.no_footprint):
        path = Path(__file__).parent / "soak.json"
        soak = json.loads(path.read_text()) if path.exists() else {}
        (options.out / "README.rst").write_text(report.document(results, soak))


def wanted(options: argparse.Namespace) -> list[Scenario]:
    return [item for item in SCENARIOS if not options.scenario or item.name in options.scenario]


def against(servers: tuple[Server, Server], options: argparse.Namespace) -> None:
    """Print how forkserve differs from what it was."""
    heading = f"now in relation to {servers[1].name}: medians (and quartiles)"
    print(f"{heading}\n{'':12}{'requests':28}processor time of one")
    for scenario in wanted(options):
        connections = max(1, options.connections // 2)
        try:
            ratios = compare(servers, scenario, options.rounds, options.seconds, connections)
        except RuntimeError as error:
            print(f"{scenario.name:12}{error}")
        else:
            print(f"{scenario.name:12}{ratios.requests!s:28}{ratios.processor_time}")


def times(
    servers: list[Server], versions: dict[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """Time every scenario. Returns the results as ``results.json`` has them, but the footprint."""
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": {item.name: versions[item.package] for item in servers},
        "connections": options.connections,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "scenarios": {},
    }
    for scenario in wanted(options):
        results["scenarios"][scenario.name] = measure(scenario, servers, options)
    return results


def measure(
    scenario: Scenario, servers: list[Server], options: argparse.Namespace
) -> dict[str, Any]:
    """Requests per second of each server, round by round; why not, for those that fail."""
    running: list[Running] = []
    rates: dict[str, list[float]] = {}
    failures: dict[str, str] = {}
    try:
        for server in servers:
            item = Running(server, SERVER_CPU)
            running.append(item)
            try:
                item.wait()
                problem = scenario.check(item.port) or scenario.check(item.port)
            except TimeoutError as error:
                problem = str(error)
            if problem is not None:
                failures[server.name] = problem
        able = [item for item in running if item.server.name not in failures]
        for number in range(options.rounds):
            for item in able[number % len(able) :] + able[: number % len(able)]:
                per_second, errors = rate(scenario, item.port, options)
                rates.setdefault(item.server.name, []).append(per_second)
                if errors:
                    failures[item.server.name] = errors
                print(
                    f"{scenario.name:11} {number + 1}/{options.rounds} {item.server.name:17} "
                    f"{per_second:9.0f}/s {errors}",
                    file=sys.stderr,
                )
    finally:
        for item in running:
            item.stop()
    return summary(rates, failures)


def summary(rates: dict[str, list[float]], failures: dict[str, str]) -> dict[str, Any]:
    """Medians, and of forkserve against each other server the median of the rounds' ratios."""
    ours = rates.get("forkserve", [])
    return {
        "median": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "ratio": {
            name: round(statistics.median(a / b for a, b in zip(ours, values, strict=True) if b), 3)
            for name, values in rates.items()
            if ours and all(values)
        },
        "rounds": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "failures": failures,
    }


def rate(scenario: Scenario, port: int, options: argparse.Namespace) -> tuple[float, str]:
    """One measurement: (requests per second, what went wrong)."""
    for seconds in (1, options.seconds):  # the first is to warm up
        with load(scenario, port, seconds, options.connections) as running:
            _, per_second, errors = running.end()
    return per_second, errors


def machine() -> dict[str, str]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "processors": str(os.cpu_count()),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }


def table(results: dict[str, Any]) -> str:
    """Requests per second, and in brackets how many times as many forkserve answers."""
    names = list(results["versions"])
    width = max(len(name) for name in names) + 2
    lines = [" " * 12 + "".join(name.rjust(width) for name in names)]
    for scenario, result in results["scenarios"].items():
        rates, ratios = "", ""
        for name in names:
            median = result["median"].get(name)
            ratio = result["ratio"].get(name)
            rates += ("-" if median is None else f"{median:.0f}").rjust(width)
            ratios += ("" if ratio is None else f"x{ratio:.2f}").rjust(width)
        lines += [scenario.ljust(12) + rates, " " * 12 + ratios]
        for name, problem in result["failures"].items():
            lines.append(f"{'':12}{name}: {problem}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
