"""Overdue calls are found at their time, and nobody looks for nothing."""

import pytest

from forkserve.master.story import CallOverdue
from forkserve.master.watch import GRACE, CallWatch
from forkserve.ops.scoreboard import Call

NEVER = float("inf")
LINE = "GET /slow HTTP/1.1"


def call(start: float, timeout: float) -> Call:
    return Call(start, LINE, start + timeout)


def test_the_first_look_is_at_once() -> None:
    assert CallWatch().next_look <= 0.0


@pytest.mark.parametrize("start", [0.0, 0.1, 29.9, 30.0, 59.9])
def test_a_call_is_overdue_at_its_deadline_and_not_before(start: float) -> None:
    watch = CallWatch()
    found: list[tuple[float, CallOverdue]] = []
    looks = 0
    now = 0.0
    while not found:
        calls = {7: [call(start, 30.0)]} if now >= start else {}
        found = [(now, overdue) for overdue in watch.look(calls, [30.0], now)]
        assert watch.next_look > now
        now = watch.next_look
        looks += 1
    assert found == [(start + 30.0 + GRACE, CallOverdue(7, start + 30.0 + GRACE - start, LINE))]
    assert looks <= 5  # it does not poll


def test_a_call_that_makes_progress_is_seen_again_at_its_new_deadline() -> None:
    watch = CallWatch()
    assert watch.look({7: [call(5.0, 30.0)]}, [30.0], 10.0) == []
    assert watch.next_look == 35.0 + GRACE
    assert watch.look({7: [Call(5.0, LINE, 60.0)]}, [30.0], 36.0) == []
    assert watch.next_look == 60.0 + GRACE


def test_the_next_look_is_at_the_shortest_timeout_or_the_earliest_deadline() -> None:
    watch = CallWatch()
    watch.look({}, [30.0, 5.0, None], 100.0)
    assert watch.next_look == 105.0
    calls = {1: [call(90.0, 30.0)], 2: [call(99.0, 9.0), call(99.0, 3.0)], 3: [call(0.0, NEVER)]}
    watch.look(calls, [30.0, 5.0], 100.0)
    assert watch.next_look == 102.0 + GRACE


def test_one_that_is_overdue_does_not_hide_the_next() -> None:
    watch = CallWatch()
    calls = {1: [call(4.0, 30.0), call(0.0, 30.0)], 2: [call(5.0, 30.0)]}
    assert watch.look(calls, [30.0], 31.0) == [CallOverdue(1, 31.0, LINE)]
    assert watch.next_look == 35.0 + GRACE


def test_a_worker_may_see_to_an_overdue_call_itself() -> None:
    watch = CallWatch()
    assert watch.look({1: [call(0.0, 30.0)]}, [30.0], 30.0) == []
    assert watch.next_look == 30.0 + GRACE


@pytest.mark.parametrize("timeouts", [[], [None], [None, None]])
def test_without_a_timeout_there_is_never_a_look(timeouts: list[float | None]) -> None:
    watch = CallWatch()
    assert watch.look({1: [call(0.0, NEVER)]}, timeouts, 1e9) == []
    assert watch.next_look == NEVER


@pytest.mark.parametrize("before", [None, 3600.0])
def test_a_timeout_that_a_reload_has_shortened_counts_at_once(before: float | None) -> None:
    watch = CallWatch()
    watch.look({}, [before], 100.0)
    watch.settings_changed()
    assert watch.next_look <= 100.0
    # The first call of the new generation began before anybody looked.
    assert watch.look({1: [call(100.5, 2.0)]}, [before, 2.0], 101.0) == []
    assert watch.next_look == 102.5 + GRACE
    assert watch.look({1: [call(100.5, 2.0)]}, [2.0], 103.5) == [CallOverdue(1, 3.0, LINE)]


@pytest.mark.parametrize(("asleep", "round_"), [(3600.0, 30.0), (4.0, 4.0)])
def test_after_a_sleep_one_round_passes_before_anybody_is_overdue(
    asleep: float, round_: float
) -> None:
    watch = CallWatch()
    watch.look({1: [call(0.0, 30.0)]}, [30.0], 0.0)
    now = 30.0 + asleep
    watch.forgive([30.0, None], asleep, now)
    assert watch.next_look == now + round_
    assert [
        item.serial for item in watch.look({1: [call(0.0, 30.0)]}, [30.0], watch.next_look)
    ] == [1]
