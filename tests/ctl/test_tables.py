"""What people read, from what the master answers."""

from typing import Any

import pytest

from forkserve.ctl import tables
from tests.ctl.sample import answer, call, worker


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (0.0, "0us"), (0.00025, "250us"), (0.012, "12ms"), (0.9994, "999ms"),
        (4.21, "4.2s"), (59.0, "59s"), (119.0, "119s"), (180.0, "3m"), (7300.0, "2h"),
        (400000.0, "5d"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert tables.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (512, "512"), (999, "999"), (1536, "1.5K"), (50 << 20, "50M"), (5 << 50, "5120T")],
)
def test_octets(count: int, text: str) -> None:
    assert tables.octets(count) == text


def test_status() -> None:
    lines = tables.status(answer(worker(0), worker(1, state="booting", last_end=""))).splitlines()
    assert lines[0] == "forkserve 0.1.0, pid 3999, generation 2, 2 of 2 workers serve, up 2h"
    assert lines[1] == "shop:application on http://127.0.0.1:8000, 3 waiting to be accepted"
    heading, first, second = lines[3:6]
    columns = dict(zip(heading.replace("LAST END", "LAST_END").split(), first.split(), strict=True))
    assert columns == {
        "SLOT": "0", "PID": "4000", "GEN": "2", "STATE": "serving", "AGE": "100s",
        "REQUESTS": "1000", "4XX": "3", "5XX": "1", "RSS": "50M", "BUSY": "20%", "QUEUED": "500ms",
        "P50": "8ms", "P99": "10ms", "CONNS": "8", "IDLE": "7", "IN": "98K", "OUT": "4.8M",
        "GIVEN": "2", "TAKEN": "4", "RESTARTS": "1", "LAST_END": "max_requests",
    }  # fmt: skip
    assert second.endswith("  -")
    assert "booting" in second


@pytest.mark.parametrize(
    ("server", "line"),
    [
        ({"state": "stopping"}, "it is stopping"),
        ({"reload": "canary"}, "a reload is under way: canary"),
        ({"refusal": "Its first worker died\nTraceback"}, "the last reload was refused: Its first"),
        ({"upgrade": "booting"}, "an upgrade is under way: booting"),
        (
            {"vacant": [{"slot": 1, "restarts": 5, "last_end": "died: SIGSEGV", "due": 12.4}]},
            "slot 1 has no worker, the next is tried in 12s; died: SIGSEGV",
        ),
    ],
)
def test_what_is_not_as_always_is_said(server: dict[str, Any], line: str) -> None:
    assert tables.status(answer(worker(0), **server)).splitlines()[2].startswith(line)


def test_of_many_slots_without_a_worker_some_are_told() -> None:
    vacant = [{"slot": at, "restarts": 1, "last_end": "died", "due": 0.5} for at in range(9)]
    lines = tables.status(answer(worker(0), vacant=vacant)).splitlines()
    assert lines[4].startswith("slot 2 has no worker")
    assert lines[5:7] == ["and 6 slots more have none", ""]


@pytest.mark.parametrize("columns", [60, 80, 120, 300])
def test_a_table_is_as_wide_as_the_terminal(columns: int) -> None:
    busy = worker(1, calls=[call(f"GET /{'x' * 200} HTTP/1.1", 2.0)])
    lines = tables.status(answer(worker(0), busy), columns).splitlines()
    assert max(map(len, lines[2:])) <= columns
    heading = next(line for line in lines if "SLOT" in line)
    assert all(name in heading for name in ("PID", "STATE", "REQUESTS", "5XX", "RSS", "P99"))
    assert ("LAST END" in heading, "TAKEN" in heading) == (columns >= 120, columns == 300)
    assert any("in a wider terminal" in line for line in lines) is (columns < 300)
    assert (lines[-1][-1] == "…") is (columns < 300)


def test_a_range_of_workers_is_said() -> None:
    assert "1 of 1 workers serve (1 to 8 by load)" in tables.status(answer(worker(0), most=8))


def test_requests_longest_first() -> None:
    calls = tables.running(
        answer(
            worker(0, calls=[call("GET /a HTTP/1.1", 2.0), call("GET /b HTTP/1.1", 0.02)]),
            worker(1, calls=[call("POST /c HTTP/1.1", 12.0, "")]),
        )
    )
    assert [it["slot"] for it in calls] == [1, 0, 0]
    assert tables.requests(calls).splitlines() == [
        "TIME  LEFT  SLOT   PID  CLIENT     REQUEST",
        " 12s   18s     1  4001  -          POST /c HTTP/1.1",
        "2.0s   28s     0  4000  192.0.2.7  GET /a HTTP/1.1",
        "20ms   30s     0  4000  192.0.2.7  GET /b HTTP/1.1",
    ]
    assert tables.requests([]) == "no request is running"


def test_a_client_moves_no_terminal() -> None:
    calls = tables.running(answer(worker(0, calls=[call("GET /\x1b[2J\n\x9b HTTP/1.1", 1.0)])))
    assert "GET /\\x1b[2J\\x0a\\x9b HTTP/1.1" in tables.requests(calls)


def test_config() -> None:
    text = tables.config(
        {
            "generation": 3,
            "settings": {
                "timeout": {"value": "30", "origin": "default"},
                "bind": {"value": [":80", "unix:/run/x"], "origin": "--bind"},
                "env": {"value": [], "origin": "default"},
            },
        }
    )
    assert text.splitlines() == [
        "generation 3",
        "",
        "SETTING  VALUE            ORIGIN",
        "bind     :80 unix:/run/x  --bind",
        "timeout  30               default",
        "env      -                default",
    ]


STACKS = """\
Thread 0x00007f01 (most recent call first):
  File "/x/forkserve/worker/crew.py", line 196 in _watch
  File "/x/forkserve/worker/crew.py", line 165 in _stand_by
  File "/x/threading.py", line 982 in run

Thread 0x00007f02 (most recent call first):
  File "/app/jobs.py", line 7 in work
  File "/x/threading.py", line 982 in run

Current thread 0x00007f03 (most recent call first):
  File "/app/shop.py", line 3 in slow
  File "/x/forkserve/worker/main.py", line 124 in run_worker
  File "/x/forkserve/cli.py", line 229 in _enter_worker

names {"0x00007f01": "standby", "0x00007f02": "Thread-1 (wo\\u001brk)", "0x00007f03": "MainThread"}
"""


def test_stacks_have_the_names_of_their_threads() -> None:
    text = tables.stack({"slot": 1, "generation": 2, "pid": 9, "text": STACKS.rstrip("\n")})
    assert text.splitlines() == [
        "worker 1 gen 2 (pid 9), most recent calls first",
        "",
        "Thread 0x00007f01 (standby):",
        '  File "/x/forkserve/worker/crew.py", line 196 in _watch',
        '  File "/x/forkserve/worker/crew.py", line 165 in _stand_by',
        '  File "/x/threading.py", line 982 in run',
        "",
        "Thread 0x00007f02 (Thread-1 (wo\\x1brk)):",
        '  File "/app/jobs.py", line 7 in work',
        '  File "/x/threading.py", line 982 in run',
        "",
        "Current thread 0x00007f03 (MainThread):",
        '  File "/app/shop.py", line 3 in slow',
        '  File "/x/forkserve/worker/main.py", line 124 in run_worker',
    ]


def test_stacks_without_names() -> None:
    text = tables.stack(
        {"slot": 1, "generation": 2, "pid": 9, "text": STACKS.partition("\nnames")[0]}
    )
    assert "Thread 0x00007f01:" in text.splitlines()
    assert text.endswith("in run_worker")


@pytest.mark.parametrize("rest", ['{"0x1": "Mai', "{}\nThread 0x2\n\nnames {}", "[]", "\x1b[2J"])
def test_names_that_cannot_be_read_are_left_out(rest: str) -> None:
    text = f'Thread 0x1 (most recent call first):\n  File "a.py", line 1 in f\nnames {rest}'
    shown = tables.stack({"slot": 1, "generation": 2, "pid": 9, "text": text})
    assert 'File "a.py", line 1 in f' in shown


def test_text_of_several_lines_moves_no_terminal() -> None:
    assert tables.readable("no\n\tit\x1b[2J\r\x9b1m") == "no\n    it\\x1b[2J\\x0d\\x9b1m"
