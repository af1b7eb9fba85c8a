"""What a process is to the kernel."""

import os
import resource
import signal
from pathlib import Path

import pytest

from forkserve.errors import PidFileError, PrivilegeError
from forkserve.proc import cpus, descriptors, privileges, signals
from forkserve.proc.channel import Channel, Message
from forkserve.proc.pidfile import PidFile
from tests.command.harness import wait_for_death

# ---- channel


def test_messages_stay_apart_and_keep_their_order() -> None:
    one, other = Channel.pair()
    assert one.receive() == []
    other.send(Message.FAILED, "why: \u20ac\nbecause")
    other.send(Message.READY)
    assert one.receive() == [(Message.FAILED, "why: \u20ac\nbecause"), (Message.READY, "")]
    assert one.receive() == []
    assert not os.get_inheritable(one.fileno())
    other.send(Message.DUE)
    other.close()
    assert one.receive() == [(Message.DUE, "")]
    assert one.receive() is None
    one.send(Message.RETIRE)  # nobody hears it, and that is no error
    one.close()


def test_a_deaf_side_does_not_block_the_other() -> None:
    one, other = Channel.pair()
    for _ in range(10000):
        one.send(Message.REOPEN)
    one.send(Message.FAILED, "x" * 1_000_000)
    assert other.receive()
    one.close()
    other.close()


# ---- signals


def test_signals_are_queued_in_order() -> None:
    queue = signals.SignalQueue()
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        queue.listen(before)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR2)
        assert list(queue.take()) == [signal.SIGUSR1, signal.SIGUSR2] * 3
        assert list(queue.take()) == []
        with signals.blocked():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert list(queue.take()) == []
        assert list(queue.take()) == [signal.SIGUSR1]
    finally:
        queue.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_wait_status_in_words() -> None:
    assert signals.describe_status(0) == "exit status 0"
    assert signals.describe_status(7 << 8) == "exit status 7"
    assert signals.describe_status(signal.SIGKILL) == "SIGKILL"
    assert signals.describe_status(40) == "signal 40"


# ---- pid file


def test_a_pid_file_is_held_by_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1234567890 and more\n")
    mine = PidFile(str(path))
    mine.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(PidFileError, match=rf"another forkserve \(pid {os.getpid()}\) holds"):
        PidFile(str(path)).acquire()
    mine.release()
    assert not path.exists()
    again = PidFile(str(path))
    again.acquire()
    path.unlink()
    path.write_text("of somebody else")
    again.release()
    assert path.read_text() == "of somebody else"


def test_a_pid_file_that_cannot_be_written() -> None:
    with pytest.raises(PidFileError, match="cannot write the pid file /nonexistent/pid"):
        PidFile("/nonexistent/pid").acquire()


# ---- privileges


def in_a_child(work: object) -> int:
    """The exit status of a child that runs ``work``: 0 if it returns, 1 for a PrivilegeError."""
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            work()  # type: ignore[operator]
            status = 0
        except PrivilegeError:
            status = 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_becoming_another_user() -> None:
    def work() -> None:
        privileges.drop_privileges(65534, 65533)
        assert os.getresuid() == (65534, 65534, 65534)
        assert os.getresgid() == (65533, 65533, 65533)
        assert 0 not in os.getgroups()

    assert in_a_child(work) == 0
    assert in_a_child(lambda: privileges.drop_privileges(65534, None)) == 0
    assert in_a_child(lambda: privileges.drop_privileges(None, 65534)) == 0
    assert in_a_child(lambda: privileges.drop_privileges(54321, None)) == 1  # no entry, no group

    def twice() -> None:
        privileges.drop_privileges(65534, None)
        privileges.drop_privileges(0, None)

    assert in_a_child(twice) == 1


def test_becoming_nobody_else() -> None:
    privileges.drop_privileges(None, None)


# ---- descriptors


def test_the_limit_of_descriptors_is_raised_as_far_as_it_goes() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
        assert descriptors.allow_descriptors(32) == 64
        assert descriptors.allow_descriptors(256) == 256
        assert descriptors.allow_descriptors(100000) == 512
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (512, 512)

    assert in_a_child(work) == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_standard_streams_are_always_there() -> None:
    def work() -> None:
        os.close(0)
        os.close(2)
        descriptors.ensure_standard_streams()
        assert all(os.fstat(fd) for fd in (0, 1, 2))
        assert os.get_inheritable(2)

    assert in_a_child(work) == 0


# ---- processors


def tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8),
        (
            {
                "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/y\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_processors_that_may_really_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert cpus.usable_cpus(tree(tmp_path, files)) == count


def test_affinity_counts() -> None:
    assert 1 <= cpus.usable_cpus() <= len(os.sched_getaffinity(0))


# ---- lifeline


def test_a_child_dies_with_its_parent() -> None:
    from forkserve.proc.lifeline import die_with

    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        child = os.fork()
        if child == 0:
            die_with(os.getppid())
            os.write(writing, b"%d\n" % os.getpid())
            signal.pause()
        signal.pause()
    child = int(os.read(reading, 100))
    os.kill(child, signal.SIGSTOP)
    os.kill(parent, signal.SIGKILL)
    assert wait_for_death(child, 1.0)
    os.waitpid(parent, 0)
    os.close(reading)
    os.close(writing)
