"""How many workers there should be, told as rows of looks at them."""

from itertools import pairwise

import pytest

from forkserve.master.story import Log, Plan
from forkserve.master.strength import Strength
from forkserve.settings.kinds import MOST_WORKERS

QUIET = 30.0
NOW = 1000.0


def plan(least: int, most: int, room: int | None = None) -> Plan:
    """``room``: the number of workers that there is memory for."""
    if room is None:
        return Plan(least, 60.0, 30.0, most, QUIET)
    return Plan(least, 60.0, 30.0, most, QUIET, None, 100 << 20, room * (100 << 20) + 5)


class Days:
    """A strength, and a load that is looked at ten times a second, as the master does."""

    def __init__(self, least: int, most: int, room: int | None = None) -> None:
        self.strength = Strength()
        self.now = NOW
        self.strength.adopt(plan(least, most, room), self.now)
        self.said: list[Log] = []
        self.steps = [self.strength.wanted]

    def load(self, requests: int, seconds: float, *, waiting: int = 0, boot: bool = True) -> None:
        """So many requests run all the time, as far as there are workers.

        ``boot``: new workers are ready at once; else they do not become so.
        """
        serving = self.strength.wanted
        for _ in range(round(seconds * 10)):
            serving = self.strength.wanted if boot else serving
            self.note(
                self.strength.looked(min(requests, serving), serving, waiting, self.now),
                self.strength.let_time_pass(self.now),
            )
            self.now += 0.1

    def idle(self, seconds: float) -> None:
        """Nobody looks; but the deadlines are kept."""
        end = self.now + seconds
        while (due := self.strength.next_deadline()) is not None and due <= end:
            self.now = due
            self.note(self.strength.let_time_pass(self.now))
            assert self.strength.next_deadline() != due, "it spins"
        self.now = end

    def note(self, *lines: Log | None) -> None:
        self.said += [line for line in lines if line is not None]
        if self.strength.wanted != self.steps[-1]:
            self.steps.append(self.strength.wanted)
        assert self.strength.least <= self.strength.wanted <= self.strength.most


@pytest.mark.parametrize(
    ("requests", "waiting", "steps"),
    [
        (0, 0, [2]),
        (1, 0, [2]),
        (2, 0, [2, 3]),  # one is idle again
        (3, 0, [2, 3, 4]),
        (8, 0, [2, 3, 4, 6, 8]),
        (100, 0, [2, 3, 4, 6, 8]),
        (0, 1, [2, 3, 4, 6, 8]),  # calls so short that no look finds them, and a queue
    ],
)
def test_it_grows_until_a_worker_is_idle(requests: int, waiting: int, steps: list[int]) -> None:
    days = Days(2, 8)
    days.load(requests, 20.0, waiting=waiting)
    assert days.steps == steps


def test_what_is_said() -> None:
    days = Days(2, 3)
    days.load(2, 1.2)
    days.idle(QUIET)
    assert days.said == [
        Log("info", "no worker was idle for a second: from 2 to 3 workers"),
        Log("info", "the last of 3 workers was hardly needed for 30: from 3 to 2 workers"),
    ]


@pytest.mark.parametrize(("idle", "steps"), [(1, [2, 3]), (2, [2])])
def test_one_look_in_ten_may_find_a_worker_between_two_calls(idle: int, steps: list[int]) -> None:
    days = Days(2, 3)
    for _ in range(20):
        days.load(1, 0.1 * idle)
        days.load(2, 1.0 - 0.1 * idle)
    assert days.steps == steps


def test_a_burst_is_met_within_seconds() -> None:
    days = Days(2, 8)
    days.load(8, 4.8)
    assert days.steps[-1] == 8


@pytest.mark.parametrize(("busy", "pause"), [(0.8, 0.2), (0.5, 0.5), (0.1, 0.1)])
def test_a_worker_that_is_idle_now_and_then_is_enough(busy: float, pause: float) -> None:
    days = Days(1, 8)
    for _ in range(100):
        days.load(1, busy)
        days.load(0, pause)
    assert days.steps == [1]


def test_looks_that_are_far_apart_say_nothing_of_the_time_between() -> None:
    days = Days(1, 8)
    for _ in range(100):
        days.load(1, 0.5)
        days.idle(0.8)
    assert days.steps == [1]


def test_nobody_is_added_while_somebody_boots() -> None:
    days = Days(2, 8)
    days.load(8, 60.0, boot=False)
    assert days.steps == [2, 3]
    days.load(8, 1.2)
    assert days.steps == [2, 3, 4]


def test_it_shrinks_by_one_after_each_quiet_time_to_the_least() -> None:
    days = Days(2, 8)
    days.load(8, 5.0)
    days.idle(10 * QUIET)
    assert days.steps == [2, 3, 4, 6, 8, 7, 6, 5, 4, 3, 2]
    assert days.strength.next_deadline() is None, "an idle server at its least wakes for nothing"


@pytest.mark.parametrize(
    ("requests", "rest"),
    [(0, 2), (1, 2), (2, 3), (3, 4), (5, 6), (7, 8), (8, 8)],
)
def test_it_shrinks_to_one_more_than_is_needed(requests: int, rest: int) -> None:
    days = Days(2, 8)
    days.load(8, 5.0)
    days.load(requests, 20 * QUIET)
    assert days.steps[-1] == rest


@pytest.mark.parametrize(("share", "rest"), [(0.05, 2), (0.2, 4)])
def test_a_load_that_comes_and_goes_keeps_its_workers_if_it_comes_often(
    share: float, rest: int
) -> None:
    days = Days(2, 8)
    days.load(3, 5.0)
    assert days.steps[-1] == 4
    for _ in range(60):
        days.load(3, 10 * share)
        days.idle(10 * (1 - share))
    assert days.steps[-1] == rest


def test_no_load_makes_it_swing() -> None:
    """Whatever is steady ends in a number that stays."""
    for requests in range(10):
        days = Days(1, 8)
        days.load(requests, 20 * QUIET)
        up = [after > before for before, after in pairwise(days.steps)]
        assert up == sorted(up, reverse=True), (requests, days.steps)
        before = len(days.steps)
        days.load(requests, 20 * QUIET)
        assert len(days.steps) == before


def test_it_does_not_grow_past_the_memory_and_says_so_once() -> None:
    days = Days(2, 8, room=3)
    days.load(8, 60.0)
    assert days.steps == [2, 3]
    assert [line.level for line in days.said] == ["info", "warning"]
    text = days.said[1].text
    assert "there is memory (300M) for no more than 3 workers of `max_rss` (100M) each" in text
    assert "it stays at 3, and `workers` would allow 8" in text
    days.strength.adopt(plan(2, 8, 3), days.now)
    days.load(8, 60.0)
    assert [line.level for line in days.said] == ["info", "warning", "warning"]


def test_the_least_is_asked_for_and_comes_whatever_the_memory() -> None:
    days = Days(4, 8, room=1)
    days.load(8, 60.0)
    assert days.steps == [4]


def test_a_number_of_workers_stays_whatever_the_load() -> None:
    days = Days(3, 3)
    days.load(100, 60.0, waiting=5)
    days.idle(1000.0)
    assert (days.steps, days.said, days.strength.next_deadline()) == ([3], [], None)


# ---- signals


def numbers(strength: Strength) -> tuple[int, int, int]:
    return strength.least, strength.wanted, strength.most


def test_signals_move_the_bounds_too() -> None:
    days = Days(2, 4)
    days.load(3, 2.2)
    assert numbers(days.strength) == (2, 4, 4)
    assert days.strength.more() == Log(
        "info", "TTIN: from 4 to 5 workers, from now on between 3 and 5"
    )
    assert days.strength.fewer().text.startswith("TTOU: from 5 to 4 workers")
    assert numbers(days.strength) == (2, 4, 4)
    days.idle(10 * QUIET)
    assert numbers(days.strength) == (2, 2, 4)


def test_ttou_at_the_least_lowers_the_bounds() -> None:
    strength = Days(1, 3).strength
    assert strength.fewer() == Log("info", "TTOU: still 1 worker, from now on between 1 and 2")
    assert strength.fewer() == Log("info", "TTOU: still 1 worker")
    assert strength.fewer() == Log("warning", "TTOU: 1 worker is the bound, nothing changes")


def test_as_many_ttin_as_ttou_change_nothing() -> None:
    strength = Days(3, 8).strength
    for number in range(100):
        (strength.more, strength.more, strength.fewer, strength.fewer)[number % 4]()
    assert numbers(strength) == (3, 3, 8)


def test_ttin_has_a_bound() -> None:
    strength = Days(MOST_WORKERS, MOST_WORKERS).strength
    assert strength.more().level == "warning"


def test_winch_and_back() -> None:
    days = Days(2, 8)
    assert days.strength.none().text.startswith("WINCH: from 2 to 0 workers; the master stays.")
    assert days.strength.none().level == "warning"
    assert days.strength.fewer().level == "warning"
    days.load(0, 10.0, waiting=3)
    assert numbers(days.strength) == (0, 0, 0)
    days.strength.more()
    assert numbers(days.strength) == (1, 1, 1)
    days.strength.adopt(plan(2, 8), days.now)
    assert numbers(days.strength) == (2, 2, 8)


@pytest.mark.parametrize(("least", "most", "wanted"), [(2, 8, 6), (1, 4, 4), (7, 9, 7), (3, 3, 3)])
def test_a_reload_keeps_what_the_load_has_brought(least: int, most: int, wanted: int) -> None:
    days = Days(2, 8)
    days.load(5, 10.0)
    assert days.strength.wanted == 6
    days.strength.adopt(plan(least, most), days.now)
    assert numbers(days.strength) == (least, wanted, most)
