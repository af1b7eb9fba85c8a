"""The fork on behalf of a process above. Each test is a process: it becomes a subreaper, and has
hooks and threads that would stay."""

import os
import resource
import select
import signal
import sys
import threading

import pytest

from forkserve.proc.grandchild import Newborn, fork_grandchild
from forkserve.proc.lifeline import adopt_orphans
from forkserve.proc.signals import blocked
from tests.descriptors import in_a_child


def fork_and_say(writing: int) -> Newborn:
    """Fork one that writes what it is, and ends with 5."""
    with blocked():
        newborn = fork_grandchild()
        if newborn is None:
            os.write(writing, f"{os.getpid()} {os.getppid()} {os.getsid(0)}\n".encode())
            os._exit(5)
    return newborn


def test_the_process_above_is_the_parent() -> None:
    def work() -> None:
        adopt_orphans()
        reading, writing = os.pipe()
        above = os.getpid()
        between = os.fork()
        if between == 0:
            newborn = fork_and_say(writing)
            os.write(writing, b"%d\n" % newborn.pid)
            newborn.release()
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, 0)  # nothing is left of the one between, and the other is not ours
            os._exit(0)
        assert os.waitpid(between, 0)[1] == 0
        os.close(writing)
        with os.fdopen(reading) as lines:
            pid = int(lines.readline())
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
            assert lines.read() == f"{pid} {above} {pid}\n"

    in_a_child(work)


def test_the_hooks_of_the_application_run_once_and_in_the_right_processes() -> None:
    def work() -> None:
        adopt_orphans()
        ran: list[tuple[str, int]] = []
        for when in ("before", "after_in_parent", "after_in_child"):
            hook = lambda when=when: ran.append((when, os.getpid()))  # noqa: E731
            os.register_at_fork(**{when: hook})
        here = os.getpid()
        newborn = fork_grandchild()
        if newborn is None:
            os._exit(ran != [("before", here), ("after_in_child", os.getpid())])
        assert ran == [("before", here), ("after_in_parent", here)]
        newborn.release()
        assert os.waitpid(newborn.pid, 0)[1] == 0

    in_a_child(work)


def test_without_release_no_code_runs_and_the_end_of_the_forker_ends_it() -> None:
    def work() -> None:
        adopt_orphans()
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            newborn = fork_and_say(writing)
            os.write(writing, b"%d" % newborn.pid)
            signal.pause()
        pid = int(os.read(reading, 100))
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        os.kill(between, signal.SIGKILL)
        assert os.waitpid(between, 0)[0] == between
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 5
        os.close(writing)
        assert os.read(reading, 100) == b""

    in_a_child(work)


def test_it_dies_with_its_parent_also_in_a_hook_that_hangs() -> None:
    reading, writing = os.pipe()
    above = os.fork()
    if above == 0:
        adopt_orphans()
        between = os.fork()
        if between == 0:

            def hang() -> None:
                os.write(writing, b"%d" % os.getpid())
                signal.pause()

            os.register_at_fork(after_in_child=hang)
            newborn = fork_grandchild()
            assert newborn is not None
            newborn.release()
            os._exit(0)
        signal.pause()
    pid = int(os.read(reading, 100))
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)
    os.kill(above, signal.SIGKILL)
    os.waitpid(above, 0)
    assert select.select([fd], [], [], 1.0)[0]
    for descriptor in (fd, reading, writing):
        os.close(descriptor)


def test_a_busy_thread_is_no_obstacle() -> None:
    """The GIL may be asked for at any moment, and the child has nobody to give it to."""

    def work() -> None:
        adopt_orphans()
        stop = threading.Event()

        def spin() -> None:
            while not stop.is_set():
                pass

        sys.setswitchinterval(1e-6)
        thread = threading.Thread(target=spin, daemon=True)
        thread.start()
        for _ in range(200):
            newborn = fork_grandchild()
            if newborn is None:
                os._exit(threading.active_count() != 1)
            newborn.release()
            assert os.waitpid(newborn.pid, 0)[1] == 0
        stop.set()
        thread.join()

    in_a_child(work)


def test_an_application_that_ignores_sigchld() -> None:
    def work() -> None:
        adopt_orphans()
        between = os.fork()
        if between == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            newborn = fork_grandchild()
            if newborn is None:
                os._exit(6)
            os.write(writing, b"%d" % newborn.pid)
            newborn.release()
            os._exit(0)
        pid = int(os.read(reading, 100))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6

    reading, writing = os.pipe()
    in_a_child(work)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("room", [0, 1])
def test_without_room_for_a_process_it_is_an_error_and_nothing_is_left(room: int) -> None:
    """``room``: processes that there may be beside this one."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be a user without other processes")

    def work() -> None:
        adopt_orphans()
        os.setresuid(54321, 54321, 54321)
        resource.setrlimit(resource.RLIMIT_NPROC, (1 + room, 1 + room))
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(BlockingIOError):
            fork_grandchild()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, 0)
        assert sorted(os.listdir("/proc/self/fd")) == before

    in_a_child(work)
