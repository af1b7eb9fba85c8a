"""One deadline for every test, and programs that a test may need."""

import contextlib
import faulthandler
import gc
import importlib.util
import os
import shutil
import signal
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any

import pytest

from tests.descriptors import open_descriptors

SECONDS = 1800 if os.environ.get("SOAK") else 90
"""No test waits longer than this for anything. With SOAK=1 some run their full counts."""
AGAIN = 30
"""Seconds until what goes on waiting is ended once more: a ``finally`` of what was ended, say."""
LAST = 3 * SECONDS
"""Seconds after which the process ends, if not even that helps: its main thread runs no Python."""

# Where a process that ends itself says where it hung. Pytest captures nothing while it configures.
_REAL_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REAL_STDERR] = os.dup(2)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # What a script starts in the background ignores Ctrl-C, and so would all servers of ours.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_REAL_STDERR])


@contextlib.contextmanager
def deadline() -> Iterator[None]:
    """End what hangs in the block, with the stack of where it hangs."""

    def expired(number: int, frame: FrameType | None) -> None:
        # No Exception, which somebody might take for what he expects: TimeoutError is an OSError.
        pytest.fail(f"this did not end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    with deadline():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    with deadline():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    with deadline():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    stderr = item.config.stash[_REAL_STDERR]
    faulthandler.dump_traceback_later(LAST, exit=True, file=stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def no_garbage() -> None:
    """What tests of other modules have left to the collector is closed, and not at any moment."""
    gc.collect()


@pytest.fixture
def nothing_leaks(no_garbage: None) -> Iterator[None]:
    """After the test as many descriptors are open as before."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def need(program: str) -> str:
    """The path of a program that is not Python's. Without it the test is skipped, but not in CI."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed, and CI must not skip what needs it")
        pytest.skip(f"{program} is not installed")
    return path


def need_module(name: str) -> None:
    """A module of an extra. Without it the test is skipped, but not in CI."""
    if importlib.util.find_spec(name) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI must not skip what needs it")
        pytest.skip(f"{name} is not installed")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.certificates import Certificates

    return Certificates(tmp_path_factory.mktemp("certificates"))
