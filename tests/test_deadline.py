"""A test that hangs is ended, wherever it hangs, and the others are run."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFTEST = """
import tests.conftest
from tests.conftest import *
tests.conftest.SECONDS, tests.conftest.AGAIN, tests.conftest.LAST = 0.3, 0.2, 4
"""
HANGING = """
import ctypes, signal
import pytest

@pytest.fixture(scope="module")
def before():
    signal.pause()

@pytest.fixture
def after():
    yield
    signal.pause()

def test_in_a_fixture(before):
    pass

def test_in_what_ends_a_fixture(after):
    pass

def test_where_errors_of_the_system_are_expected():
    while True:
        try:
            signal.pause()
        except OSError:
            pass

def test_once_more_while_it_is_ended():
    try:
        signal.pause()
    finally:
        signal.pause()

def test_that_does_not_hang():
    pass

def test_with_the_gil():
    lock = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(lock)
"""


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_hanging.py").write_text(HANGING)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "-c", "/dev/null",
         "--rootdir", str(tmp_path), str(tmp_path)],
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": ""},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    told = [line.split("::")[1] for line in result.stdout.splitlines() if "::" in line]
    assert [line.split("  ")[0].split(" [")[0].strip() for line in told] == [
        "test_in_a_fixture ERROR",
        "test_in_what_ends_a_fixture PASSED",
        "test_in_what_ends_a_fixture ERROR",
        "test_where_errors_of_the_system_are_expected FAILED",
        "test_once_more_while_it_is_ended FAILED",
        "test_that_does_not_hang PASSED",
        "test_with_the_gil",
    ], result.stdout
    assert "Timeout" in result.stderr
    assert "in test_with_the_gil" in result.stderr
