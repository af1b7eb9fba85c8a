"""The results as a document: ``benchmarks/README.rst``."""

from collections.abc import Sequence
from typing import Any

from benchmarks.soak.report import section
from benchmarks.tables import table

_TEMPLATE = """\
==========
Benchmarks
==========

::

    make bench                                   # all of it: about 20 minutes
    make bench BENCH="--scenario hello --rounds 3 --out /tmp"
    make bench BENCH="--against HEAD~1"          # forkserve and as it was; writes nothing

It installs the peers into an environment of its own (``.bench``), and needs wrk (Debian: ``apt
install wrk``) and two processors. bjoern needs the headers of libev (``libev-dev``), and is left
out without them. It writes this file, ``results.json`` and ``results.svg``.

How it measures: each server runs one worker, pinned to one processor; wrk runs on another, with
{connections} connections. Before a server is timed its answer is checked, octet by octet. Servers
are timed in turn, {seconds} seconds each after a second to warm up, in {rounds} rounds. On a shared
machine only ratios within a round mean something; the figures below are the medians of the rounds.
With ``--against`` the two run at once on the one processor, because what a change of the code makes
is often less than what moments differ by; it tells also by how much the processor time differs that
a request takes.

============= ====================================================================================
Scenario      What is asked for
============= ====================================================================================
hello         14 octets, with the three fields that wrk sends
browser       the same, with the 12 fields that a browser sends
varied        the same, but query, cookie, request id and referer are different each time
stream10      a generator of 10 blocks of 1 KiB
bytes100k     100,000 octets
upload64k     64 KiB with Content-Length, read by the application
chunked64k    64 KiB in 8 chunks, read by the application
flask         a Flask view that returns JSON
============= ====================================================================================


Results
=======

{date}: {processor}, {processors} processors, Linux {kernel}, CPython {python}. {versions}.

.. image:: results.svg

Requests per second:

{rates}

How many times as many forkserve answers:

{ratios}

uWSGI (``--http-socket``) and gunicorn's sync worker close each connection, and pay for a new one
each time.{failures}

Four workers, each server on all processors: the median time from the command to the first answer,
and the memory (PSS) of the idle workers together, and with the master:

{footprint}

waitress and bjoern have no workers.
"""


# What wrk says of a server that closes each connection.
_CLOSED = "Socket errors: connect 0, read"


def document(results: dict[str, Any], soak: dict[str, Any]) -> str:
    """``results`` as in ``results.json``, ``soak`` as in ``soak.json``."""
    names = list(results["versions"])
    scenarios = results["scenarios"]
    others = [name for name in names if name != "forkserve"]
    text = _TEMPLATE.format(
        **results["machine"],
        connections=results["connections"],
        seconds=results["seconds"],
        rounds=results["rounds"],
        date=results["date"],
        versions=", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        rates=table(
            ["Scenario", *names],
            [[name, *_row(result["median"], names, 0)] for name, result in scenarios.items()],
        ),
        ratios=table(
            ["Scenario", *others],
            [[name, *_row(result["ratio"], others, 2)] for name, result in scenarios.items()],
        ),
        failures=_failures(scenarios),
        footprint=table(
            ["Server", "first answer, ms", "workers, MiB", "all, MiB"],
            [
                [name, *(str(item[key]) for key in ("first_answer_ms", "workers_pss_mib",
                                                    "all_pss_mib"))]
                for name, item in results["footprint"].items()
            ],
        ),
    )  # fmt: skip
    return text + section(soak)


def _row(values: dict[str, float], names: Sequence[str], digits: int) -> list[str]:
    return [f"{values[name]:.{digits}f}" if name in values else "--" for name in names]


def _failures(scenarios: dict[str, Any]) -> str:
    """What was not measured, or not without errors."""
    lines = [
        f"* {scenario}, {name}: {problem}"
        for scenario, result in scenarios.items()
        for name, problem in result["failures"].items()
        if "Non-2xx" in problem or not problem.startswith(_CLOSED)
    ]
    return (
        "".join(["\n\nAnswers that were wrong or missing:\n\n", "\n".join(lines)]) if lines else ""
    )
