"""What may break is run in a child: whatever it does there, the parent hears of it in time."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from forkserve.errors import ForkserveError, SettingsError
from forkserve.rehearsal import rehearse
from tests.descriptors import open_descriptors


def problems() -> None:
    raise SettingsError(["one", "two \udcff"])


def failure() -> None:
    raise ForkserveError("it is not there")


def accident() -> None:
    raise LookupError("of its own")


def leave() -> None:
    raise SystemExit(3)


def vanish() -> None:
    os._exit(4)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("run", "part"),
    [
        (problems, "one\ntwo \udcff"), (failure, "it is not there"), (accident, "LookupError: of its own"),
        (leave, "SystemExit: 3"), (vanish, "the file ended the process in which it was tried: exit status 4"),
        (crash, "it was tried: SIGKILL"),
    ],
)  # fmt: skip
def test_what_it_raises_is_raised(run: Callable[[], None], part: str) -> None:
    before = open_descriptors()
    with pytest.raises(ForkserveError) as caught:
        rehearse(run, "the file", 10)
    assert part in str(caught.value)
    assert isinstance(caught.value, SettingsError) == (run is problems)
    assert open_descriptors() == before


def test_what_it_does_is_over_with_it(capfd: pytest.CaptureFixture[str]) -> None:
    done = []

    def run() -> None:
        done.append(1)
        os.chdir("/")
        print("not shown", flush=True)
        threading.Thread(target=signal.pause, daemon=True).start()

    before = os.getcwd()
    rehearse(run, "the file", 10)
    assert (done, os.getcwd()) == ([], before)
    assert capfd.readouterr().out == ""


def test_it_is_not_waited_for_longer_than_its_time() -> None:
    began = time.monotonic()
    with pytest.raises(ForkserveError, match=r"come to its end within `boot_timeout` \(0\.2 s\)"):
        rehearse(signal.pause, "the file", 0.2)
    assert time.monotonic() - began < 5


def test_a_process_that_it_leaves_behind_is_not_waited_for() -> None:
    def run() -> None:
        if os.fork() == 0:
            signal.alarm(10)
            signal.pause()

    began = time.monotonic()
    rehearse(run, "the file", 60)
    assert time.monotonic() - began < 5
