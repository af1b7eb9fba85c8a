"""The crowd: every client of every population, in one process and one loop.

A process of its own, so that what starts it takes no time from what it measures. It reads commands
from its standard input, a line each, and answers each with a line of JSON:

``phase NAME``       what ends from now on is counted there
``right N SECONDS NAME``  answered when N further requests of that population (``*``: of all) were
                     right, or after so many seconds (``inf``)
``stop``             no further request; answered with the verdict when those under way have ended
``leave``            the same, but everybody goes on until he is refused (``--gives-up``)
"""

import argparse
import dataclasses
import gc
import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from array import array
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.soak.client import Client
from benchmarks.soak.populations import KINDS
from benchmarks.soak.tally import Tally, Verdict

NOTE = struct.Struct("=QI")  # as the application writes it
_LOST = ("fin", "reset", "timeout", "wrong_status", "wrong_body")


class Crowd:
    """The loop, and the counts."""

    def __init__(self, address: tuple[str, int], patience: float, gives_up: bool) -> None:
        """``patience``: seconds for an answer. ``gives_up``: who is refused does not come again."""
        self.address = address
        self.patience = patience
        self.gives_up = gives_up
        self.stopping = False
        self._leaving = False
        self.sent = array("d", [0.0])  # by number: when the request was out
        self.fates = bytearray(1)  # by number: 1 is right, 2 lost
        self.verdict = Verdict()
        self._tallies: dict[str, Tally] = {}
        self._latencies: dict[str, array[float]] = {}
        self._last_right: dict[str, float] = {}
        self._epoll = select.epoll()
        self._by_fd: dict[int, Client] = {}
        self._writing: set[int] = set()
        self._timers: list[tuple[float, int, int, Client]] = []
        self._timer_count = 0
        self._clients: set[Client] = set()
        self._awaited: tuple[str, int, float] | None = None
        self._rights: Counter[str] = Counter()
        self._commands = b""

    # ---- what clients call

    def new_number(self) -> int:
        """The id of a new request."""
        self.fates.append(0)
        self.sent.append(0.0)
        return len(self.fates) - 1

    def sent_at(self, number: int, now: float) -> None:
        """The last octets of a request go out now."""
        self.sent[number] = now

    def answered(self, client: Client, number: int, latency: float, now: float) -> None:
        """A request has the answer that it should."""
        name = client.name
        tally = self.tally(name)
        tally.right += 1
        self.fates[number] = 1
        self._latencies[name].append(latency)
        last = self._last_right.get(name, now)
        tally.gap = max(tally.gap, round(1000 * (now - last), 2))
        self._last_right[name] = now
        if self._awaited is not None:
            self._rights[name] += 1
            self._rights["*"] += 1

    def count(self, client: Client, how: str, number: int) -> None:
        """Something else has happened to a client; ``how`` is a field of Tally."""
        tally = self.tally(client.name)
        setattr(tally, how, getattr(tally, how) + 1)
        if how in _LOST:
            self.fates[number] = 2

    def call_at(self, when: float, client: Client, serial: int) -> None:
        """Call the client's ``timer`` with ``serial``."""
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, serial, client))

    def register(self, sock: socket.socket, client: Client, *, writable: bool) -> None:
        """Call the client's ``event``."""
        self._by_fd[sock.fileno()] = client
        self._epoll.register(sock, select.EPOLLOUT if writable else select.EPOLLIN)

    def modify(self, sock: socket.socket, *, writable: bool) -> None:
        """Wait for ``sock`` to be writable too, or no longer."""
        (self._writing.add if writable else self._writing.discard)(sock.fileno())
        events = select.EPOLLIN | (select.EPOLLOUT if writable else 0)
        self._epoll.modify(sock, events)

    def is_writing(self, sock: socket.socket) -> bool:
        return sock.fileno() in self._writing

    def unregister(self, sock: socket.socket) -> None:
        self._epoll.unregister(sock)
        del self._by_fd[sock.fileno()]
        self._writing.discard(sock.fileno())

    def has_left(self, client: Client) -> None:
        """It sends nothing more."""
        self._clients.discard(client)

    # ---- the loop

    def run(self, counts: dict[str, int], seed: int) -> None:
        """Until ``stop``, and everybody has left. The verdict is complete then."""
        self._begin_phase("begin")
        random = Random(seed)
        for name, count in counts.items():
            for _ in range(count):
                client = Client(self, name, KINDS[name], Random(random.random()))
                self._clients.add(client)
        commands = sys.stdin.fileno()
        self._epoll.register(commands, select.EPOLLIN)
        now = time.monotonic()
        for client in list(self._clients):
            client.begin(now)
        while self._clients or not (self.stopping or self._leaving):
            for fd, events in self._epoll.poll(self._timeout(time.monotonic())):
                if fd == commands:
                    self._on_commands()
                elif fd in self._by_fd:
                    self._by_fd[fd].event(bool(events & select.EPOLLOUT), time.monotonic())
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                _, _, serial, other = heapq.heappop(self._timers)
                other.timer(serial, now)
            self._look_at_awaited(now)
        self._end_phase()

    def _on_commands(self) -> None:
        octets = os.read(sys.stdin.fileno(), 4096)
        if not octets and (self.stopping or self._leaving):
            self._epoll.unregister(sys.stdin.fileno())
        elif not octets:
            raise SystemExit("who started the crowd is gone")
        *lines, self._commands = (self._commands + octets).split(b"\n")
        for line in lines:
            command, *words = line.decode().split(" ", 3)
            if command == "phase":
                self._begin_phase(words[0])
                print("{}", flush=True)
            elif command == "right":
                until = time.monotonic() + float(words[1])
                self._awaited = (words[2], int(words[0]), until)
                self._rights.clear()
            elif command == "leave":
                self._leaving = True
            elif command == "stop":
                self.stopping = True
                for client in list(self._clients):
                    client.stop()

    def _timeout(self, now: float) -> float | None:
        due = self._timers[0][0] if self._timers else float("inf")
        if self._awaited is not None:
            due = min(due, self._awaited[2])
        return None if due == float("inf") else max(0.0, due - now)

    def _look_at_awaited(self, now: float) -> None:
        if self._awaited is None:
            return
        name, count, until = self._awaited
        if self._rights[name] >= count or now >= until:
            self._awaited = None
            print("{}", flush=True)

    def _begin_phase(self, name: str) -> None:
        self._end_phase()
        self._tallies = self.verdict.phases[name] = {}
        self._latencies = {}
        self._last_right.clear()

    def _end_phase(self) -> None:
        for name, tally in self._tallies.items():
            tally.measure(self._latencies[name])

    def tally(self, name: str) -> Tally:
        """That of a population, in the phase that goes on."""
        if name not in self._tallies:
            self._tallies[name] = Tally()
            self._latencies[name] = array("d")
        return self._tallies[name]

    def compare(self, notes: bytes) -> None:
        """Compare with what the application has noted."""
        seen = Counter(number for number, *_ in NOTE.iter_unpack(notes))
        self.verdict.twice = sum(count > 1 for count in seen.values())
        for number, fate in enumerate(self.fates):
            self.verdict.unseen += fate == 1 and number not in seen
            self.verdict.vanished += fate == 2 and number not in seen


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Send requests, and count what becomes of them.")
    parser.add_argument("port", type=int)
    parser.add_argument("counts", type=json.loads, help='{"busy": 4, "idle": 20}')
    parser.add_argument("--notes", type=Path, required=True, help="what the application writes")
    parser.add_argument("--sent", type=Path, help="write here when each request was out")
    parser.add_argument("--patience", type=float, default=20.0)
    parser.add_argument("--gives-up", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    gc.freeze()
    gc.disable()  # a pause of ours would count as the server's
    # Another crowd may have been there before, and its numbers were the same.
    noted = options.notes.stat().st_size if options.notes.exists() else 0
    crowd = Crowd(("127.0.0.1", options.port), options.patience, options.gives_up)
    crowd.run(options.counts, options.seed)
    crowd.compare(options.notes.read_bytes()[noted:])
    if options.sent:
        options.sent.write_bytes(crowd.sent.tobytes())
    result: dict[str, Any] = dataclasses.asdict(crowd.verdict)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
