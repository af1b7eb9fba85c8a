"""Stacks of a process that goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from forkserve.proc.stacks import (
    NAMES,
    SIGNAL,
    StackFile,
    is_writing,
    send_signal,
    write_stacks,
    write_stacks_into,
)
from tests.command.harness import wait_for_death
from tests.descriptors import in_a_child

pytestmark = pytest.mark.usefixtures("nothing_leaks")


@pytest.fixture
def file() -> Iterator[StackFile]:
    file = StackFile()
    yield file
    file.close()


def test_a_thread_writes_those_of_all_with_their_names(file: StackFile) -> None:
    def work() -> None:
        done = threading.Event()
        thread = threading.Thread(target=done.wait, name="waits\n")
        thread.start()
        write_stacks_into(file.fileno())
        write_stacks()
        done.set()
        thread.join()

    in_a_child(work)
    stacks, _, names = file.read().partition(f"\n{NAMES}")
    assert "in work" in stacks and "Current thread" in stacks and "threading.py" in stacks
    assert sorted(json.loads(names).values()) == ["MainThread", "waits\n"]
    file.clear()
    assert file.read() == ""


def child_that_waits(file: StackFile) -> tuple[int, int]:
    """(its pid, what it reads from until it is closed): a process with the handler."""
    ready, go = os.pipe()
    hold, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(end)
            write_stacks_into(file.fileno())
            os.write(go, b"x")
            os.read(hold, 1)  # EINTR ends no read
        finally:
            os._exit(0)
    os.read(ready, 1)
    for fd in (ready, go, hold):
        os.close(fd)
    return pid, end


def test_the_signal_has_them_written_and_interrupts_nothing(file: StackFile) -> None:
    pid, end = child_that_waits(file)
    for _ in range(3):
        file.clear()
        assert send_signal(pid)
        while is_writing(pid) or not file.read():
            pass
        assert "in child_that_waits" in file.read()
        assert NAMES not in file.read()
    os.close(end)
    assert os.waitpid(pid, 0)[1] == 0
    assert not send_signal(pid) and not is_writing(pid)


def test_who_is_stopped_is_not_signalled(file: StackFile) -> None:
    """It would write when it goes on, and nobody knows what its threads do then."""
    pid, end = child_that_waits(file)
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    assert not send_signal(pid)
    os.kill(pid, signal.SIGCONT)
    os.close(end)
    assert os.waitpid(pid, 0)[1] == 0


def test_who_has_no_handler_is_not_killed() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        assert not send_signal(sleeper.pid)
        assert not wait_for_death(sleeper.pid, 0.1)
        os.kill(sleeper.pid, SIGNAL)  # what would have been
        assert sleeper.wait(10) == -SIGNAL


def test_frames_are_had_while_there_is_garbage_that_concerns_all_threads() -> None:
    """CPython 3.11 stood still for ever if it was collected in the middle (gh-106883)."""
    code = """
import gc, threading
from forkserve.proc.stacks import current_frames
class Local(threading.local):
    pass
def garbage():
    local = Local()
    local.text = "of this thread"
    circle = [local]
    circle.append(circle)
    return circle
for _ in range(10):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
gc.set_threshold(3, 1, 1)
for _ in range(300):
    kept = [garbage() for _ in range(3)]
    gc.collect(0)
    del kept
    for _ in range(4):
        assert len(current_frames()) == 11
assert gc.isenabled()
gc.disable()
current_frames()
assert not gc.isenabled()
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
