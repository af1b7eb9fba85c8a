"""What a row runs on: servers, crowds, and the checks of its figures.

A row is one line of the table "nothing is lost": something that happens to a server, and what must
hold meanwhile. It is a function that takes a ``Run``, lets it happen, and checks figures. What a
row or a check needs and the server cannot do yet is "not there": never passed, and no failure.
"""

import dataclasses
import importlib.util
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forkserve
from benchmarks.soak.tally import Tally, Verdict
from benchmarks.wrk import CLIENT_CPU, SERVER_CPU
from forkserve.net.listeners import Listener
from forkserve.settings import Settings
from tests.command.harness import Server, children, wait_for_death

ROOT = Path(__file__).parents[2]
CODE = "from benchmarks.soak.application import application\n"
MIX = {"busy": 4, "slow": 1, "uploading": 2, "chunked": 2, "streaming": 1, "idle": 20}
"""Everybody at once. A slow and a streaming client hold two workers of one thread."""


def pause(seconds: float) -> None:
    """Let time pass: what happens in it is what is measured."""
    select.select([], [], [], max(0.0, seconds))


# ---- what the server can do


def _module(name: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(f"forkserve.{name}") is not None


def _setting(name: str) -> Callable[[], bool]:
    return lambda: name in {field.name for field in dataclasses.fields(Settings)}


def _adaptive() -> bool:
    field = next(field for field in dataclasses.fields(Settings) if field.name == "workers")
    try:
        field.metadata["declaration"].kind.read("2:8")
    except Exception:  # noqa: BLE001 - whatever it says, it does not know it
        return False
    return True


def _master_writes_access_lines() -> bool:
    master = Path(forkserve.__file__).parent / "master"
    return any("ops.access" in path.read_text() for path in master.glob("*.py"))


def _wrk() -> bool:
    """It is there, and a processor for it beside that of the server."""
    programs = shutil.which("wrk") and shutil.which("taskset")
    return bool(programs) and {SERVER_CPU, CLIENT_CPU} <= os.sched_getaffinity(0)


CAPABILITIES: dict[str, Callable[[], bool]] = {
    "crew": _module("worker.crew"),
    "hand-off": _module("worker.handoff"),
    "upgrade": _module("master.upgrade"),
    "threads": _setting("threads"),
    "preload": _setting("preload"),
    "max_lifetime": _setting("max_lifetime"),
    "max_rss": _setting("max_rss"),
    "adaptive": _adaptive,
    "last reset": lambda: hasattr(Listener, "turn_away"),
    "access lines of the killed": _master_writes_access_lines,
    "wrk": _wrk,
}


def missing(needs: str) -> str:
    """Of what ``needs`` names, with commas, what is not there; "" if nothing."""
    names = [name.strip() for name in needs.split(",") if name.strip()]
    return ", ".join(name for name in names if not CAPABILITIES[name]())


# ---- rows and checks


@dataclass(frozen=True, slots=True)
class Check:
    """A figure, and what it must be. ``bound`` None: it is only told. ``needs``: what the server
    must be able to do for the bound to hold."""

    name: str
    value: float
    bound: float | None
    at_least: bool
    needs: str

    @property
    def outcome(self) -> str:
        """One of passed, FAILED, not there, told."""
        if self.bound is None:
            return "told"
        if missing(self.needs):
            return "not there"
        good = self.value >= self.bound if self.at_least else self.value <= self.bound
        return "passed" if good else "FAILED"


@dataclass(frozen=True, slots=True)
class Row:
    """``event``: what happens. ``needs``: without it the row is not run."""

    name: str
    event: str
    needs: str
    function: Callable[["Run"], None]


ROWS: dict[str, Row] = {}


def row(name: str, event: str, *, needs: str = "") -> Callable[..., Callable[["Run"], None]]:
    """Declare the decorated function as a row."""

    def declare(function: Callable[["Run"], None]) -> Callable[["Run"], None]:
        ROWS[name] = Row(name, event, needs, function)
        return function

    return declare


class Run:
    """One run of a row. ``quick``: the counts of ``make test``, and bounds that noise respects."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.checks: list[Check] = []
        self.tables: list[str] = []
        self.directory = Path(tempfile.mkdtemp(prefix="soak-"))
        self.notes = self.directory / "notes"
        self.notes.touch()
        self.expected: list[str] = []  # words of lines at ERROR that are part of the row
        self.servers: list[Server] = []
        self.crowds: list[Crowd] = []
        self.write(CODE)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exc: object) -> None:
        """End everything. Raises AssertionError if a process is left, or an error was logged."""
        for crowd in self.crowds:
            crowd.process.kill()
            crowd.process.communicate()
        lines: list[str] = []
        left: list[int] = []
        for server in self.servers:
            pids = children(server.pid)
            if server.process.poll() is None:
                server.stop("QUIT")
            left += [pid for pid in pids if not wait_for_death(pid, 5.0)]
            lines += server.lines
        shutil.rmtree(self.directory, ignore_errors=True)
        if exc[0] is None:
            errors = [line for line in lines if re.search(" (ERROR|CRITICAL) ", line)]
            strange = [line for line in errors if not any(word in line for word in self.expected)]
            assert not strange, strange
            assert not left, "workers outlived their master"

    # ---- what it works with

    def count(self, whole: int, quick: int) -> int:
        return quick if self.quick else whole

    def write(self, code: str, name: str = "shop.py") -> None:
        """Deploy: put another application, or settings, in place of what is there."""
        path = self.directory / name
        fresh = path.with_suffix(".new")
        fresh.write_text(code)
        os.replace(fresh, path)

    def server(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        listener: socket.socket | None = None,
    ) -> Server:
        """A server of shop.py, with all its workers ready. ``listener`` is handed down to it."""
        words = (*arguments, "shop")
        env = {"SOAK_NOTES": str(self.notes), "PYTHONPATH": str(ROOT), **(env or {})}
        fds = () if listener is None else (listener.fileno(),)
        bind = "127.0.0.1:0" if listener is None else f"fd://{listener.fileno()}"
        server = Server("-b", bind, *words, env=env, cwd=self.directory, pass_fds=fds)
        self.servers.append(server)
        server.up()
        workers = int(words[words.index("-w") + 1]) if "-w" in words else 1
        server.wait_for("is ready", count=workers)
        return server

    def crowd(self, server: Server, counts: dict[str, int], *options: str) -> "Crowd":
        crowd = Crowd(server.port, counts, self.notes, *options)
        self.crowds.append(crowd)
        return crowd

    # ---- what it says

    def at_most(
        self, name: str, value: float, bound: float, *, quick: float | None = None, needs: str = ""
    ) -> None:
        """``quick`` takes the place of ``bound`` in a quick run."""
        if self.quick and quick is not None:
            bound = quick
        self.checks.append(Check(name, round(value, 3), bound, False, needs))

    def at_least(
        self, name: str, value: float, bound: float, *, quick: float | None = None, needs: str = ""
    ) -> None:
        if self.quick and quick is not None:
            bound = quick
        self.checks.append(Check(name, round(value, 3), bound, True, needs))

    def told(self, name: str, value: float) -> None:
        """A figure without a bound."""
        self.checks.append(Check(name, round(value, 3), None, False, ""))

    def nothing_lost(self, verdict: Verdict, *, closed: str | None = "hand-off") -> Tally:
        """What must hold in most rows. ``closed``: what it needs for no connection to be closed;
        None if they may be."""
        self.tables.append(verdict.table())
        total = verdict.all()
        self.told("requests", total.right)
        self.at_most("lost", total.lost, 0)
        self.at_most("refused", total.refused, 0)
        self.at_most("seen twice", verdict.twice, 0)
        self.at_most("answered, not seen", verdict.unseen, 0)
        if closed is not None:
            self.at_most("connections closed", total.closed, 0, needs=closed)
        return total


def ready_pids(server: Server) -> list[int]:
    """The workers that are ready: its other children are no workers, or no longer."""
    ready = {int(pid) for pid in re.findall(r"\(pid (\d+)\) is ready", server.log)}
    return [pid for pid in server.workers() if pid in ready]


class Crowd:
    """The process of the clients, from the outside."""

    def __init__(self, port: int, counts: dict[str, int], notes: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks.soak.crowd", str(port), json.dumps(counts),
                "--notes", str(notes), *options,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT,
        )  # fmt: skip

    def _command(self, text: str) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{text}\n")
        answer = self.process.stdout.readline()
        assert answer, "the crowd ended"
        return json.loads(answer)

    def phase(self, name: str) -> None:
        self._command(f"phase {name}")

    def right(self, count: int, name: str = "*") -> None:
        """Wait for so many further right answers of one population, or of all."""
        self._command(f"right {count} inf {name}")

    def go_on(self, count: int) -> None:
        """Let them go on for so many answers, but no longer than a second."""
        self._command(f"right {count} 1 *")

    def stop(self) -> Verdict:
        """Let what is under way end."""
        return Verdict.parse(self._command("stop"))

    def leave(self) -> Verdict:
        """Wait until everybody has been refused (``--gives-up``)."""
        return Verdict.parse(self._command("leave"))
