"""What is counted, and what can be seen of it while others write."""

import json
import os
import threading
from typing import Any

import pytest

from forkserve.ops import tally
from forkserve.ops.scoreboard import Scoreboard
from forkserve.ops.snapshot import percentile, take_snapshot
from forkserve.ops.tally import LATENCY_BOUNDS, STATES, Tally
from forkserve.worker.state import PLACES, State


def text_of(*rows: int) -> bytes:
    workers: list[dict[str, Any]] = [
        {"row": row, "slot": row, "pid": os.getpid(), "generation": 1, "state": "serving",
         "since": 90.0, "restarts": 2, "last_end": "died: SIGKILL"}
        for row in rows
    ]  # fmt: skip
    return json.dumps({"server": {"pid": 1, "since": 40.0}, "workers": workers}).encode()


def test_a_request_is_counted() -> None:
    own = Tally()
    own.over(200, 0.003, 0.002, 0.0, 100, 2000)
    own.over(404, 40.0, 0.0, 0.3, 50, 10)
    assert own.changed and not any(own.read())
    own.write()
    assert not own.changed
    numbers = own.read()
    assert [numbers[tally.STATUSES + digit] for digit in range(6)] == [0, 0, 1, 0, 1, 0]
    assert (numbers[tally.RECEIVED], numbers[tally.SENT]) == (150, 2010)
    assert (numbers[tally.BUSY], numbers[tally.QUEUED]) == (0.002, 0.3)
    assert numbers[tally.LASTED] == pytest.approx(40.003)
    latency = numbers[tally.LATENCY : tally.LATENCY + tally.BUCKETS]
    assert latency[LATENCY_BOUNDS.index(0.005)] == 1
    assert latency[-1] == 1 and sum(latency) == 2
    queue = numbers[tally.QUEUE : tally.QUEUE + tally.BUCKETS]
    assert queue[LATENCY_BOUNDS.index(0.5)] == 1 and sum(queue) == 1


@pytest.mark.parametrize(("status", "digit"), [(0, 0), (101, 1), (599, 5), (600, 0), (999, 0)])
def test_statuses_are_counted_by_their_first_digit(status: int, digit: int) -> None:
    own = Tally()
    own.over(status, 0.0, 0.0, 0.0, 0, 0)
    own.write()
    assert own.read()[tally.STATUSES + digit] == 1
    assert sum(own.read()[tally.STATUSES : tally.RECEIVED]) == 1


def test_every_state_has_its_name() -> None:
    assert [state.name.lower() for state in State] == list(STATES)
    assert list(PLACES.values()) == list(range(len(STATES)))


def test_a_snapshot_is_ready_for_json_and_sums_up_those_that_are_gone() -> None:
    board = Scoreboard(4)
    tallies: list[Tally] = []
    for index in (0, 2):
        row = board.row(index)
        row.take(1)
        tallies.append(row.tally())
        tallies[-1].over(200, 0.001, 0.001, 0.0, 10, 20)
        tallies[-1].write()
    board.row(2).cells()[0].begin(30.0, 97.0, "GET /slow HTTP/1.1", "192.0.2.7")
    tallies[1].move(PLACES[State.CLOSED], PLACES[State.RUNNING])
    tallies[1].write()
    board.write(text_of(0, 2))
    seen = json.loads(json.dumps(take_snapshot(board, 100.0)))
    assert seen["server"] == {"pid": 1, "up_seconds": 60.0}
    first, second = seen["workers"]
    assert (first["age"], first["restarts"], first["last_end"]) == (10.0, 2, "died: SIGKILL")
    assert first["rss"] > 1 << 20 and first["calls"] == []
    assert second["calls"] == [
        {"request": "GET /slow HTTP/1.1", "client": "192.0.2.7", "seconds": 3.0, "left": 27.0}
    ]
    assert second["connections"] == {name: int(name == "running") for name in STATES[:-1]}
    assert seen["totals"]["requests"] == 2
    board.row(0).tally().killed([2.0])
    board.write(text_of(2), ended=[0])
    board.row(0).take(0)
    seen = take_snapshot(board, 100.0)
    assert [worker["slot"] for worker in seen["workers"]] == [2]
    assert (seen["totals"]["requests"], seen["totals"]["aborted"]) == (3, 1)
    assert seen["totals"]["statuses"]["none"] == 1
    board.row(0).take(1)
    board.write(text_of(0, 2))
    assert take_snapshot(board, 100.0)["workers"][0]["requests"] == 0


def test_a_call_that_began_a_moment_ago_has_no_negative_age() -> None:
    board = Scoreboard(1)
    board.row(0).take(1)
    board.row(0).cells()[0].begin(30.0, 100.001, "GET / HTTP/1.1")
    board.write(text_of(0))
    assert take_snapshot(board, 100.0)["workers"][0]["calls"][0]["seconds"] == 0.0


def test_a_slot_without_a_worker_is_due_in_so_many_seconds() -> None:
    board = Scoreboard(1)
    slots = [
        {"slot": slot, "restarts": 1, "last_end": "died: SIGSEGV", "due": due}
        for slot, due in ((1, 112.5), (2, 99.0))
    ]
    board.write(json.dumps({"server": {"vacant": slots}, "workers": []}).encode())
    seen = take_snapshot(board, 100.0)["server"]["vacant"]
    assert [(it["slot"], it["due"]) for it in seen] == [(1, 12.5), (2, 0.0)]


def test_before_the_master_has_said_anything() -> None:
    seen = take_snapshot(Scoreboard(1), 1.0)
    assert (seen["server"], seen["workers"], seen["totals"]["requests"]) == ({}, [], 0)


def test_totals_never_go_back_while_workers_end() -> None:
    board = Scoreboard(2)
    stop = threading.Event()
    board.write(text_of(0))

    def workers_come_and_go() -> None:
        while not stop.is_set():
            for row in (0, 1):
                own = board.row(row).tally()
                own.over(200, 0.001, 0.001, 0.0, 1, 1)
                own.write()
                board.write(text_of(1 - row), ended=[row])

    thread = threading.Thread(target=workers_come_and_go, daemon=True)
    thread.start()
    try:
        before = 0
        for _ in range(2000):
            requests = take_snapshot(board, 1.0)["totals"]["requests"]
            assert requests >= before
            before = requests
    finally:
        stop.set()
        thread.join()


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="octets of text"):
        Scoreboard(1).write(b"x" * (1 << 21))


def test_percentiles_are_within_their_bucket() -> None:
    counts = [0] * tally.BUCKETS
    assert percentile(counts, 0.99) is None
    counts[LATENCY_BOUNDS.index(0.01)] = 100
    assert percentile(counts, 0.5) == pytest.approx(0.0075)
    counts[-1] = 100
    assert percentile(counts, 0.99) == LATENCY_BOUNDS[-1]
