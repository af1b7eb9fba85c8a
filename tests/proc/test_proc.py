"""What a process is to the kernel."""

import ctypes
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import setproctitle

from forkserve.errors import PidFileError, PrivilegeError
from forkserve.proc import cpus, crash, descriptors, memory, privileges, signals, title
from forkserve.proc.channel import Channel, Message
from forkserve.proc.command import Command, command_of, names_interpreter
from forkserve.proc.lifeline import die_with
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


def test_last_words_are_heard_of_a_worker_that_has_not_listened() -> None:
    """The kernel says "reset" before them, if the worker ended with something unread."""
    master, worker = Channel.pair()
    master.send(Message.RETIRE)
    worker.send(Message.FAILED, "why")
    worker.close()
    assert master.receive() == [(Message.FAILED, "why")]
    assert master.receive() is None
    master.close()


def hear(channel: Channel) -> list[Message]:
    return [message for message, _ in channel.receive() or []]


def test_orders_to_a_deaf_worker_are_kept_and_said_once() -> None:
    master, worker = Channel.pair()
    said = 0
    while not master.unsent:
        master.send(Message.REOPEN)  # does not block
        said += 1
    for message in (Message.REOPEN, Message.RETIRE, Message.REOPEN, Message.STOP, Message.RETIRE):
        master.send(message)
    assert len(master.unsent) == 3
    master.flush()
    assert len(master.unsent) == 3  # still deaf
    heard = hear(worker)
    assert heard == [Message.REOPEN] * (said - 1)
    master.flush()
    assert master.unsent == []
    assert hear(worker) == [Message.REOPEN, Message.RETIRE, Message.STOP]
    master.flush()
    assert hear(worker) == []
    master.send(Message.RETIRE)  # a new one, and not what was said
    assert hear(worker) == [Message.RETIRE]
    master.close()
    worker.close()


def test_what_is_unsent_is_said_before_what_comes_later() -> None:
    master, worker = Channel.pair()
    while not master.unsent:
        master.send(Message.REOPEN)
    heard = hear(worker)
    master.send(Message.QUIT)
    assert [*heard, *hear(worker)][-2:] == [Message.REOPEN, Message.QUIT]
    master.close()
    worker.close()


def test_nothing_stays_unsent_for_who_is_gone() -> None:
    master, worker = Channel.pair()
    while not master.unsent:
        master.send(Message.REOPEN)
    worker.close()
    master.flush()
    assert master.unsent == []
    master.close()


def test_a_long_traceback_is_cut() -> None:
    worker, master = Channel.pair()
    worker.send(Message.FAILED, "\u20ac" * 1_000_000)
    ((message, text),) = master.receive() or []
    assert message is Message.FAILED
    assert text.startswith("\u20ac" * 20000)
    assert len(text.encode()) <= 65536
    worker.close()
    master.close()


def test_words_of_a_later_version_are_ignored() -> None:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ends[0])
    for octets in (b"dance\0the tango", b"ready", b"\0", b"\xff\xfe", b"due\0\xff"):
        ends[1].send(octets)
    assert channel.receive() == [(Message.READY, ""), (Message.DUE, "\ufffd")]
    channel.close()
    ends[1].close()


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


def test_handlers_are_those_of_before() -> None:
    def ours(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGUSR2, ours)
    try:
        with signals.handlers_kept():
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            signal.signal(signal.SIGWINCH, ours)
        assert signal.getsignal(signal.SIGUSR2) is ours
        assert signal.getsignal(signal.SIGWINCH) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR2, before)


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
    with pytest.raises(
        PidFileError, match=r"cannot write the pid file /nonexistent/pid \(`pid`\): No such"
    ):
        PidFile("/nonexistent/pid").acquire()


def test_a_pid_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    link = tmp_path / "pid"
    link.symlink_to(precious)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "made")
    for path in (link, dangling):
        with pytest.raises(PidFileError, match="It is a link"):
            PidFile(str(path)).acquire()
        assert path.is_symlink()
    assert precious.read_text() == "precious"
    assert not (tmp_path / "made").exists()


def test_a_pid_file_for_which_there_is_no_room_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "pid"

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        before = os.listdir("/proc/self/fd")
        file = PidFile(str(path))
        with pytest.raises(PidFileError, match=r"cannot write .*: File too large"):
            file.acquire()
        assert os.listdir("/proc/self/fd") == before
        assert not path.exists()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        PidFile(str(path)).acquire()  # is not locked

    assert in_a_child(work) == 0


def test_a_pid_file_that_is_no_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pipe"  # or /dev/null, where root may do anything
    os.mkfifo(path)
    with pytest.raises(PidFileError, match="not a regular file"):
        PidFile(str(path)).acquire()
    assert path.is_fifo()


# ---- privileges


def in_a_child(work: Callable[[], object]) -> int:
    """The exit status of a child that runs ``work``: 0 if it returns, 1 for a PrivilegeError."""
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            work()
            status = 0
        except PrivilegeError:
            status = 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@as_root
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


@as_root
def test_the_groups_of_who_started_us_are_given_up() -> None:
    def work() -> None:
        os.setgroups([0, 4242])
        privileges.drop_privileges(65534, 65533)
        assert not {0, 4242} & set(os.getgroups())

    def group_only() -> None:
        os.setgroups([0, 4242])
        privileges.drop_privileges(None, 65533)
        assert os.getgroups() == [65533]

    assert in_a_child(work) == 0
    assert in_a_child(group_only) == 0


@as_root
@pytest.mark.parametrize("name", ["setgroups", "setresgid", "setresuid"])
def test_what_did_not_come_true_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = os.getgroups()
    try:
        os.setgroups([0, 4242])
        # A kernel that says yes and does nothing: seccomp filters have done so.
        monkeypatch.setattr(os, name, lambda *ids: None)
        assert in_a_child(lambda: privileges.drop_privileges(65534, 65533)) == 1
    finally:
        monkeypatch.undo()
        os.setgroups(groups)


@as_root
def test_a_way_back_to_root_is_noticed() -> None:
    def keeps_its_capabilities() -> None:
        # PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP
        if ctypes.CDLL(None).prctl(28, 4, 0, 0, 0) != 0:
            os._exit(77)
        privileges.drop_privileges(65534, 65533)

    status = in_a_child(keeps_its_capabilities)
    if status == 77:
        pytest.skip("this root must not change its secure bits")
    assert status == 1


@as_root
def test_who_is_nobody_already_may_stay_so() -> None:
    def work() -> None:
        privileges.drop_privileges(65534, 65533)
        privileges.drop_privileges(65534, 65533)
        privileges.drop_privileges(None, 65533)

    assert in_a_child(work) == 0


def test_becoming_nobody_else() -> None:
    privileges.drop_privileges(None, None)


# ---- title


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a.b:c", "a.b:c"), ("caf\u00e9", "caf\u00e9"), ("a\udcffb", "a?b"), ("", "")],
)
def test_a_title_can_be_of_any_text(name: str, shown: str) -> None:
    def work() -> None:
        title.set_title("worker 3", name)
        assert setproctitle.getproctitle() == f"forkserve: worker 3 [{shown}]"

    assert in_a_child(work) == 0


# ---- crashes


def test_a_crash_leaves_the_stack(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def work_that_crashes() -> None:
        with open(path, "w") as file:
            crash.dump_stacks_to(file)
            os.abort()

    assert in_a_child(work_that_crashes) == -signal.SIGABRT
    assert "work_that_crashes" in path.read_text()


def test_many_signals_at_once_do_not_overflow_the_stack_of_the_crash_report() -> None:
    numbers = {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU,
               signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH}  # fmt: skip

    def work() -> None:
        with open(os.devnull, "w") as file:
            crash.dump_stacks_to(file)
            queue = signals.SignalQueue()
            queue.listen(numbers)
            with signals.blocked():
                for number in numbers:
                    os.kill(os.getpid(), number)
            assert set(queue.take()) == numbers

    assert in_a_child(work) == 0


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


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/cpu.max": "25000 100000\n",
            },
            0.25,
        ),
    ],
)
def test_the_tightest_quota_counts(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert cpus.cpu_quota(tree(tmp_path, files)) == quota


def test_affinity_counts() -> None:
    assert 1 <= cpus.usable_cpus() <= len(os.sched_getaffinity(0))


# ---- memory

MEMINFO = {"proc/meminfo": "MemTotal:       16384 kB\nMemFree:         1024 kB\n"}


@pytest.mark.parametrize(
    ("files", "octets"),
    [
        ({}, 16 << 20),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 16 << 20),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1048576\n"}, 1 << 20),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "2097152\n"}, 2 << 20),
        ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/memory.max": "3145728\n"}, 3 << 20),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "9000000000\n"}, 16 << 20),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/y\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "4194304\n",
            },
            4 << 20,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            16 << 20,
        ),
    ],
)
def test_memory_that_may_really_be_used(tmp_path: Path, files: dict[str, str], octets: int) -> None:
    assert memory.usable_memory(tree(tmp_path, {**MEMINFO, **files})) == octets


def test_memory_of_which_nothing_can_be_known(tmp_path: Path) -> None:
    assert memory.usable_memory(str(tmp_path)) is None


def test_the_memory_that_a_process_holds() -> None:
    before = memory.resident_memory(os.getpid())
    block = bytearray(b"x" * (32 << 20))
    after = memory.resident_memory(os.getpid())
    assert before is not None
    assert after is not None
    assert (24 << 20) < after - before < (48 << 20)
    del block
    assert memory.resident_memory(1 << 30) is None


# ---- lifeline


def test_a_child_dies_with_its_parent() -> None:
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


def test_a_signal_that_comes_while_a_child_is_forked_ends_it() -> None:
    """It is held back until the handlers of the parent are gone, and not lost with them."""

    def in_a_child() -> None:
        queue = signals.SignalQueue()
        os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
        queue.listen([signal.SIGTERM])
        signals.default_in_children([signal.SIGTERM])
        pid = os.fork()
        if pid == 0:
            os._exit(7)  # not reached
        os._exit(0 if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM else 1)

    pid = os.fork()
    if pid == 0:
        try:
            in_a_child()
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---- the command


def test_the_command_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    cases = [
        (["/v/bin/python", "/v/bin/forkserve", "app"], True, "/v/bin/forkserve", 1),
        (["/v/bin/python", "/v/bin/forkserve", "app"], False, "/v/bin/python", 0),
        (["python", "-m", "forkserve", "app"], False, "/found/python", 0),
        (["./python", "-O", "-m", "forkserve", "app"], False, "./python", 0),
    ]
    for argv, is_script, program, first in cases:
        command = command_of(argv, "/found/python", {}, is_script)
        assert command == Command(program, tuple(argv[first:]), here)


def test_the_directory_keeps_its_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    monkeypatch.chdir(link)
    for name, expected in [(str(link), link), ("/", real), ("link", real), ("/nowhere", real)]:
        command = command_of(["python"], "python", {"PWD": name}, False)
        assert command.directory == str(expected)
    real.rmdir()
    command = command_of(["python"], "python", {"PWD": str(link)}, False)
    with pytest.raises(FileNotFoundError):
        command.execute({})


def test_which_scripts_name_their_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "script"
    for text, mode, expected in [
        ("#!/v/bin/python\n", 0o755, True),
        ("#!/usr/bin/env /v/bin/python\n", 0o755, True),
        ("#!/bin/sh\n'''exec' /v/bin/python \"$0\" \"$@\"\n", 0o755, True),
        ("#!/usr/bin/python3\n", 0o755, False),
        ("#!/v/bin/python\n", 0o644, False),
        ("import sys  # /v/bin/python\n", 0o755, False),
    ]:
        script.write_text(text)
        script.chmod(mode)
        assert names_interpreter(["/v/bin/python", str(script)]) is expected, text
    assert not names_interpreter(["/v/bin/python", "-m", "forkserve"])
    assert not names_interpreter(["/v/bin/python", str(tmp_path / "gone")])
    assert not names_interpreter(["/v/bin/python"])


# ---- the pid file of a master that takes another's place


def test_a_pid_file_takes_the_place_of_another(tmp_path: Path) -> None:
    old, new = PidFile(str(tmp_path / "pid")), PidFile(str(tmp_path / "pid.2"))
    old.acquire()
    new.acquire()
    inode = os.stat(new.path).st_ino
    new.move_to(old.path)
    assert os.listdir(tmp_path) == ["pid"]
    old.release()
    assert os.stat(new.path).st_ino == inode
    with pytest.raises(PidFileError, match="another forkserve"):
        PidFile(new.path).acquire()
    new.release()
    assert os.listdir(tmp_path) == []


def test_a_pid_file_that_is_left_to_a_successor_stays(tmp_path: Path) -> None:
    file = PidFile(str(tmp_path / "pid"))
    file.acquire()
    file.leave_to_successor()
    file.release()
    assert os.listdir(tmp_path) == ["pid"]
