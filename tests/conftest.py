"""One deadline for every test, and programs that a test may need."""

import gc
import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from tests.descriptors import open_descriptors

SECONDS = 1800 if os.environ.get("SOAK") else 90
"""No test waits longer than this for anything. With SOAK=1 some run their full counts."""


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """End a test that hangs, with the stack of where it hangs."""

    def expired(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the test did not end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


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
