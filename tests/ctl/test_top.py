"""What `forkservectl top` draws, from looks that are made up."""

import io
import re
import sys
from typing import Any

import pytest
from rich.console import Console

from forkserve.ctl.top import KEYS, Picture, _keys, sparkline
from tests.ctl.sample import answer, call, histogram, worker


def drawn(picture: Picture, width: int = 120, height: int | None = None) -> str:
    console = Console(record=True, width=width, force_terminal=False, file=io.StringIO())
    console.print(picture.draw(width, height))
    return console.export_text()


def looked(*answers: dict[str, Any]) -> Picture:
    """A picture after these looks, two seconds apart."""
    picture = Picture()
    for number, each in enumerate(answers):
        picture.look(each, 100.0 + 2.0 * number)
    return picture


def later(**members: Any) -> dict[str, Any]:
    return worker(0, requests=1600, busy_seconds=41.0, latency=[*histogram(1600)], **members)


def test_rates_are_those_between_two_looks() -> None:
    text = drawn(looked(answer(worker(0)), answer(later())))
    assert "requests/s  300" in text
    assert "busy        25%" in text  # one second of two, of two threads
    assert "p50 8ms   p90 10ms   p99 10ms" in text
    assert "3 to be accepted   0 for a thread" in text
    [row] = [line for line in text.splitlines() if "4000" in line]
    assert row.split()[:7] == ["0", "4000", "2", "serving", "100s", "300", "25%"]


def test_one_look_knows_no_rates() -> None:
    text = drawn(looked(answer(worker(0))))
    assert "requests/s  -" in text
    assert KEYS.split()[0] in text


def test_the_slowest_requests() -> None:
    calls = [call(f"GET /{number} HTTP/1.1", float(number)) for number in range(12)]
    text = drawn(looked(answer(worker(0, calls=calls))))
    assert "slowest of 12 running requests" in text
    assert text.index("GET /11 ") < text.index("GET /4 ")
    assert "GET /3 " not in text


def test_numbers_that_begin_anew_are_no_negative_rate() -> None:
    """After an upgrade, or when a worker was replaced."""
    text = drawn(looked(answer(later()), answer(worker(0, requests=0, busy_seconds=0.0))))
    assert "requests/s  0" in text


def test_what_is_not_as_always_and_what_was_said() -> None:
    picture = looked(answer(worker(0), reload="rolling"))
    picture.say("from 1 to 2 workers\x1b[2J\nand more")
    text = drawn(picture)
    assert "a reload is under way: rolling" in text
    assert "from 1 to 2 workers\\x1b[2J" in text and "and more" not in text


def test_a_narrow_terminal() -> None:
    calls = [call(f"GET /{'x' * 200} HTTP/1.1", 1.0)]
    text = drawn(looked(answer(worker(0, calls=calls)), answer(later(calls=calls))), width=80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "slot      pid  gen  state      age   req/s  busy    p99   rss  conns  runs" in text
    assert "…" not in next(line for line in lines if "serving" in line)


@pytest.mark.parametrize(("width", "height"), [(120, 50), (80, 24), (60, 16), (40, 12), (30, 9)])
@pytest.mark.parametrize("workers", [1, 4, 40])
def test_a_small_terminal_has_all_that_matters(width: int, height: int, workers: int) -> None:
    """The keys are on its last line, at the latest, and the rest is above them."""
    calls = [call(f"GET /{number} HTTP/1.1", float(number)) for number in range(12)]
    each = [worker(slot) for slot in range(workers - 1)]
    last = worker(workers - 1, calls=calls)
    said = {"refusal": "Its first worker could not boot, for a reason that is a long one"}
    text = drawn(looked(answer(*each, last, **said)), width, height)
    lines = text.splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[-1].startswith("r reload")
    assert "the last reload was refused" in text and "requests/s" in text
    if height >= 16:
        assert f"\n{workers - 1:>4} " in text  # it is the one that is busy
        assert ("\nand " in text) is (workers == 40 or (workers, height) == (4, 16))


def test_many_requests_leave_room_for_workers_and_they_for_requests() -> None:
    calls = [call(f"GET /{number} HTTP/1.1", float(number)) for number in range(12)]
    picture = looked(answer(*(worker(slot, calls=calls) for slot in range(16))))
    text = drawn(picture, 80, 24)
    assert "and 10 more" in text
    assert (text.count("GET /0 "), text.count("GET /11 ")) == (6, 3)
    assert "GET /4 HTTP" in drawn(looked(answer(worker(0, calls=calls))), 80, 26)


def test_in_a_narrow_terminal_it_is_requests_that_are_cut() -> None:
    calls = [call(f"GET /{'x' * 99} HTTP/1.1", 12.0), call("GET / HTTP/1.1", 9.0)]
    text = drawn(looked(answer(worker(0, calls=calls))), width=50)
    assert re.search(r"^ 12s  slot 0  192\.0\.2\.7  GET /x{19}…$", text, re.MULTILINE)
    assert "9.0s  slot 0  192.0.2.7  GET / HTTP/1.1" in text


def test_without_a_standard_input_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it if the descriptor is closed
    with _keys() as keyboard:
        assert keyboard is None


def test_sparkline() -> None:
    assert sparkline([0.0, 0.01, 4.0, 8.0], "green").plain == " ▁▄█"
    assert sparkline([0.5, 1.0], "green", most=1.0).plain == "▄█"
    assert sparkline([0.0, 0.0], "green").plain == "  "
    assert sparkline([], "green").plain == ""
    assert sparkline([1.0, 2.0, 4.0, 8.0], "green", room=2).plain == "▄█"
    assert sparkline([1.0], "green", room=-5).plain == ""
