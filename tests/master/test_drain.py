"""The time between a TERM and the stop."""

import signal

import pytest

from forkserve.master.drain import Drain
from forkserve.master.story import Life

TERM, HUP, QUIT = signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT


def test_a_term_is_held_back_for_the_delay() -> None:
    drain = Drain()
    said = drain.holds(TERM, 5.0, Life.UP, 100.0)
    assert said is not None and said.text.startswith("TERM: draining") and "5 s" in said.text
    assert drain.is_under_way
    assert not drain.is_over(104.9)
    assert drain.is_over(105.0)
    assert not drain.is_over(106.0)
    assert not drain.is_under_way


@pytest.mark.parametrize("number", [TERM, signal.SIGINT, QUIT])
def test_a_second_one_ends_the_wait(number: signal.Signals) -> None:
    drain = Drain()
    drain.holds(TERM, 5.0, Life.UP, 100.0)
    assert drain.holds(number, 5.0, Life.UP, 101.0) is None
    assert not drain.is_under_way
    assert not drain.is_over(200.0)


@pytest.mark.parametrize(
    ("number", "delay", "life"),
    [
        (TERM, None, Life.UP), (QUIT, 5.0, Life.UP), (HUP, 5.0, Life.UP),
        (TERM, 5.0, Life.STARTING), (TERM, 5.0, Life.STOPPING), (TERM, 5.0, Life.QUITTING),
    ],
)  # fmt: skip
def test_other_signals_are_heard_at_once(
    number: signal.Signals, delay: float | None, life: Life
) -> None:
    drain = Drain()
    assert drain.holds(number, delay, life, 100.0) is None
    assert not drain.is_under_way


def test_who_is_about_to_stop_begins_nothing_new() -> None:
    drain = Drain()
    drain.holds(TERM, 5.0, Life.UP, 100.0)
    for name in ("HUP", "USR2", "TTIN", "TTOU", "WINCH"):
        said = drain.holds(signal.Signals[f"SIG{name}"], 5.0, Life.UP, 101.0)
        assert said is not None
        assert said.text == f"{name}: ignored, because the server is about to stop"
    assert drain.holds(signal.SIGUSR1, 5.0, Life.UP, 101.0) is None
    assert drain.is_under_way


def test_a_master_that_did_not_run_drains_no_shorter() -> None:
    drain = Drain()
    drain.holds(TERM, 5.0, Life.UP, 100.0)
    drain.forgive(60.0)
    assert not drain.is_over(164.0)
    assert drain.is_over(165.0)
