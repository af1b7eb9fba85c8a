"""USR2: a new master takes the place of the old one, or the old one has not noticed."""

import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command.harness import (
    COMMAND,
    PLAIN,
    Client,
    Server,
    children,
    descriptors,
    unix_client,
    wait_for_death,
)
from tests.command.load import Load

Start = Callable[..., Server]

REFUSED = "USR2: upgrade refused"


def in_calls(server: Server, count: int, gate: Path) -> list[Client]:
    """Clients in so many calls, the first ones: who is in a call accepts nobody."""
    clients = [server.connect() for _ in range(count)]
    for number, client in enumerate(clients, 1):
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        server.wait_for("^waiting", count=number)
    return clients


def assert_descriptors_are_again(pid: int, before: list[str]) -> None:
    """A master says that it is done, and then closes; and it reads files of /proc now and then."""
    limit = time.monotonic() + 5
    while (after := descriptors(pid)) != before:
        assert time.monotonic() < limit, (before, after)


def hang_but_one(app: Path) -> None:
    """From now on one worker boots, and each other hangs."""
    once = f"os.mkdir({str(app / 'first')!r})"
    hang = f"import os, time\ntry: {once}\nexcept OSError: time.sleep(99)\n"
    (app / "shop.py").write_text(hang + PLAIN)


class Line:
    """A server, and the masters that follow it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pid = server.pid
        self.upgrades = 0

    def usr2(self) -> int:
        """Ask for an upgrade, and return the pid of the new master."""
        boots = r"USR2: process (\d+) boots beside this one"
        count = sum(bool(re.search(boots, line)) for line in self.server.lines)
        os.kill(self.pid, signal.SIGUSR2)
        return int(self.server.wait_for(boots, count=count + 1)[count][1])

    def upgrade(self) -> int:
        """Have it succeeded, and return the pid of the master that serves then."""
        old, new = self.pid, self.usr2()
        self.server.wait_for(f"USR2: this process takes the place of process {old}$")
        self.server.wait_for(f"USR2: process {old} has ended, the upgrade is done")
        self.pid = new
        assert wait_for_death(old)
        return new

    def end(self, name: str = "TERM") -> None:
        os.kill(self.pid, getattr(signal, f"SIG{name}"))
        assert wait_for_death(self.pid)


@pytest.fixture
def line(start: Start) -> Iterator[Callable[..., Line]]:
    """``line("app", ...)`` is a server that is stopped in the end, whoever is the master then."""
    lines: list[Line] = []

    def starter(*arguments: str, **options: object) -> Line:
        lines.append(Line(start(*arguments, **options)))
        return lines[-1]

    yield starter
    for one in lines:
        workers = children(one.pid)
        if not wait_for_death(one.pid, 0):
            os.kill(one.pid, signal.SIGQUIT)
            assert wait_for_death(one.pid)
        one.server.end_heirs()  # of a test that failed in the middle both may be there
        assert all(wait_for_death(pid, 5.0) for pid in workers), "workers outlived their master"


Begin = Callable[..., Line]


def test_an_upgrade_under_load_loses_nothing(line: Begin, app: Path) -> None:
    pid_file = app / "pid"
    one = line("-w", "2", "-p", str(pid_file), "shop", cwd=app)
    first = one.pid
    with Load(one.server.port, "/hello") as load:
        for _ in range(3):
            load.wait_for(50)
            assert pid_file.read_text() == f"{one.pid}\n"
            one.upgrade()
        load.wait_for(50)
        outcomes = load.stop()
    assert {key for key in outcomes if key != 200} <= {"closed"}, outcomes
    assert pid_file.read_text() == f"{one.pid}\n"
    assert one.server.process.wait(30) == 0  # the first one
    assert one.pid != first
    assert len(children(one.pid)) == 2
    assert not (app / "pid.2").exists()
    one.end()
    assert not pid_file.exists()


def test_many_upgrades_leak_no_descriptor(line: Begin) -> None:
    one = line("-w", "2", "plain")
    one.server.wait_for("is ready", count=2)
    before = descriptors(one.pid)
    for _ in range(int(os.environ.get("FORKSERVE_UPGRADES", "3"))):
        one.upgrade()
    assert_descriptors_are_again(one.pid, before)


def test_a_running_request_is_answered_by_the_old_one(line: Begin, gate: Path) -> None:
    one = line("plain")
    old = one.pid
    with one.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        one.server.wait_for("is ready")
        new = one.usr2()
        one.server.wait_for(f"process {new} serves now, and this one ends")
        assert one.server.get("/pid")[1] in [str(pid).encode() for pid in children(new)]
        assert not wait_for_death(old, 0)
        gate.open("w").close()
        assert client.response().status == 200
    one.pid = new
    assert wait_for_death(old)


@pytest.mark.parametrize("pid_file", [True, False])
def test_new_code_and_new_settings(line: Begin, app: Path, pid_file: bool) -> None:
    extra = f'pid = "{app / "pid"}"\n' if pid_file else ""
    (app / "f.toml").write_text(f'app = "shop"\n{extra}')
    one = line("-c", str(app / "f.toml"), cwd=app)
    (app / "shop.py").write_text(PLAIN.replace('b"hello"', 'b"new"'))
    extra = "" if pid_file else f'pid = "{app / "pid"}"\n'
    (app / "f.toml").write_text(f'app = "shop"\nworkers = 2\n{extra}')
    one.upgrade()
    assert one.server.get() == (200, b"new")
    assert len(children(one.pid)) == 2
    assert (app / "pid").exists() == (not pid_file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ('(app / "shop.py").write_text("import nonsense")', "nonsense"),
        ('(app / "shop.py").write_text("raise SystemExit(7)")', "SystemExit"),
        ('(app / "f.toml").write_text("wrokers = 3")', "wrokers"),
        ('(app / "f.toml").write_text("app = ")', "this is not TOML"),
        ('(app / "f.toml").write_text("app = \\"shop\\"\\nbind = \\"192.0.2.1:1\\"")', "no interface"),
        ('(app / "shop.py").write_text("import time; time.sleep(100)")', "boot_timeout"),
        ('shutil.rmtree(app / "place")', "place: No such file or directory"),
        ('(app / "place" / "forkserve").unlink()', "forkserve: No such file or directory"),
        ('(app / "place" / "forkserve").write_text("#!/bin/sh\\nexit 9\\n")', "exit status 9"),
        ('(app / "place" / "forkserve").write_text("#!/bin/sh\\nkill -9 $$\\n")', "SIGKILL"),
    ],
)  # fmt: skip
def test_a_broken_new_one_leaves_the_old_one_as_it_was(
    line: Begin, app: Path, monkeypatch: pytest.MonkeyPatch, change: str, reason: str
) -> None:
    place, config = app / "place", app / "f.toml"
    place.mkdir()
    shutil.copy(COMMAND, place)
    # PORT, because an address on the command line would win over that of the file.
    settings = f'app = "shop"\npythonpath = ["{app}"]\n'
    if reason == "boot_timeout":
        settings += "boot_timeout = 1\n"
    config.write_text(settings)
    monkeypatch.setattr("tests.command.harness.COMMAND", str(place / "forkserve"))
    one = line(
        "-c", str(config), "-p", str(app / "pid"), cwd=place,
        bind=None, env={"PWD": str(place), "PORT": "0"},
        errors=(REFUSED, "could not boot", "no worker could boot"),
    )  # fmt: skip
    workers, inode = one.server.workers(), (app / "pid").stat().st_ino
    exec(change)
    new = one.usr2()
    found = one.server.wait_for(REFUSED)
    assert reason in found[0].string
    assert wait_for_death(new)
    assert (one.server.workers(), one.server.get()) == (workers, (200, b"hello"))
    assert ((app / "pid").stat().st_ino, (app / "pid").read_text()) == (inode, f"{one.pid}\n")
    assert not (app / "pid.2").exists()
    assert len(one.server.wait_for(REFUSED)) == 1


@pytest.fixture
def slow(line: Begin, app: Path, gate: Path) -> Line:
    """A server whose next boot takes until somebody writes to ``gate``."""
    one = line(
        "-p",
        str(app / "pid"),
        "-w",
        "2",
        "shop",
        cwd=app,
        errors=(REFUSED, "no worker could boot", "could not boot"),
    )
    one.server.wait_for("is ready", count=2)
    boot = f"import os\nos.write(2, b'booting\\n')\nopen({str(gate)!r}).close()\n"
    (app / "shop.py").write_text(boot + PLAIN)
    return one


def test_what_is_refused_meanwhile(slow: Line, gate: Path) -> None:
    server, before = slow.server, slow.server.workers()
    new = slow.usr2()
    slow.server.wait_for("^booting", count=2)
    assert server.workers() == sorted([*before, new])
    server.signal("USR2")
    server.wait_for(f"USR2: ignored, because an upgrade is under way already, by process {new}")
    server.signal("HUP")
    server.wait_for(f"HUP: refused, because an upgrade .process {new}. is under way")
    server.signal("TTIN")
    server.wait_for("TTIN: from 2 to 3 workers")
    with gate.open("w"):
        slow.server.wait_for(f"USR2: process {slow.pid} has ended")
    slow.pid = new
    assert len(children(new)) == 2
    assert "reloaded" not in server.log


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_stop_meanwhile_ends_both(slow: Line, app: Path, name: str) -> None:
    new = slow.usr2()
    slow.server.wait_for("^booting", count=2)
    workers = [*children(new), *children(slow.pid)]
    slow.end(name)
    assert slow.server.process.wait(30) == 0
    assert not [pid for pid in [new, *workers] if not wait_for_death(pid, 0)]
    assert list(app.glob("pid*")) == []


def test_term_meanwhile_is_not_held_back(line: Begin, app: Path, gate: Path) -> None:
    one = line("--drain-delay", "1h", "shop", cwd=app)
    boot = f"import os\nos.write(2, b'booting\\n')\nopen({str(gate)!r}).close()\n"
    (app / "shop.py").write_text(boot + PLAIN)
    new = one.usr2()
    one.server.wait_for("^booting")
    one.end()  # else the old one would drain, and the new one would never hear of the TERM
    assert wait_for_death(new)


def test_term_while_the_old_one_still_answers(line: Begin, app: Path, gate: Path) -> None:
    """A service manager kills what is left when the main process ends: so that ends last."""
    one = line("-p", str(app / "pid"), "shop", cwd=app)
    old = one.pid
    with one.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        one.server.wait_for("^waiting")
        one.pid = one.usr2()
        one.server.wait_for("and this one ends")
        one.server.wait_for("takes the place")
        os.kill(one.pid, signal.SIGTERM)
        one.server.wait_for(rf"pid {one.pid}\] TERM: stopping")
        one.server.wait_for(rf"pid {one.pid}\] worker 0 .* has left")
        assert not wait_for_death(one.pid, 0)
        one.server.wait_for(rf"pid {old}\] USR2: process {one.pid}, .* is told to end too")
        gate.open("w").close()
        # There is nobody to hand the connection to any more.
        response = client.response()
        assert (response.status, response.getheader("Connection")) == (200, "close")
        assert client.rest() == b""
    assert wait_for_death(old)
    assert wait_for_death(one.pid)
    assert list(app.glob("pid*")) == []


def test_nobody_is_handed_to_one_that_ends_whether_the_master_knows_or_not(
    line: Begin, gate: Path
) -> None:
    """TERM for the new one, of which the old one does not hear: somebody has stopped it."""
    one = line("plain")
    old = one.pid
    with one.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        one.server.wait_for("^waiting")
        (first,) = one.server.workers()
        before = len(descriptors(first))
        new = one.pid = one.usr2()
        one.server.wait_for("takes the place")
        while len(descriptors(first)) >= before:
            pass  # it has not heard that it retires: then it closes the listeners
        (worker,) = children(new)
        os.kill(old, signal.SIGSTOP)
        try:
            os.kill(new, signal.SIGTERM)
            assert wait_for_death(worker)
            gate.open("w").close()
            response = client.response()
            assert (response.status, response.getheader("Connection")) == (200, "close")
            assert client.rest() == b""
        finally:
            os.kill(old, signal.SIGCONT)
    assert wait_for_death(old)
    assert wait_for_death(new)


def test_term_while_a_new_one_that_came_too_late_still_answers(
    line: Begin, app: Path, gate: Path
) -> None:
    """It gives to the workers of the old one what it serves, until these leave too."""
    one = line(
        "-w", "2", "--boot-timeout", "2", "shop", cwd=app, errors=(REFUSED, "could not boot")
    )  # fmt: skip
    one.server.wait_for("is ready", count=2)
    workers, other = one.server.workers(), app / "other"
    os.mkfifo(other)
    busy = in_calls(one.server, 2, other)
    hang_but_one(app)
    new = one.usr2()
    one.server.wait_for(rf"pid {new}\] worker \d gen 1 \(pid (\d+)\) is ready")
    with one.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        one.server.wait_for("^waiting", count=3)
        other.open("w").close()
        for done in busy:
            assert done.response().status == 200
            done.socket.close()
        one.server.wait_for(REFUSED)
        one.server.wait_for(rf"pid {new}\] .* and this one ends")
        for pid in (one.pid, new):  # as with KillMode=control-group
            os.kill(pid, signal.SIGTERM)
        one.server.wait_for(rf"pid {new}\] TERM: this process is ending already")
        assert all(wait_for_death(pid) for pid in workers)
        gate.open("w").close()
        response = client.response()
        assert (response.status, response.getheader("Connection")) == (200, "close")
        assert client.rest() == b""
    assert wait_for_death(new)
    assert wait_for_death(one.pid)


def test_the_new_one_is_killed_while_the_old_one_still_answers(line: Begin, gate: Path) -> None:
    one = line("plain", errors=("is gone already",))
    old = one.pid
    with one.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        one.server.wait_for("^waiting")
        new = one.usr2()
        one.server.wait_for("takes the place")
        os.kill(new, signal.SIGKILL)
        one.server.wait_for(rf"pid {old}\] the new master .pid {new}. is gone already: SIGKILL")
        gate.open("w").close()
        # There is nobody to hand the connection to any more.
        response = client.response()
        assert (response.status, response.getheader("Connection")) == (200, "close")
        assert client.rest() == b""
    assert wait_for_death(old)


@contextlib.contextmanager
def unheard(one: Line, app: Path, gate: Path) -> Iterator[tuple[int, list[Client], list[int]]]:
    """A new master that is ready, and an old one that has not heard of it yet: meanwhile somebody
    has stopped it. (The pid of the new one, clients in calls of both old workers, the new workers.)
    """
    one.server.wait_for("is ready", count=2)
    busy = in_calls(one.server, 2, gate)
    boot = app / "boot"
    os.mkfifo(boot)
    (app / "shop.py").write_text(f"import os\nopen({str(boot)!r}).close()\n{PLAIN}")
    new = one.usr2()
    while Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        pass  # stopped in the middle of a turn, it would hear of all but its signals first
    os.kill(one.pid, signal.SIGSTOP)
    try:
        with boot.open("w"):
            one.server.wait_for(rf"pid {new}\] worker \d gen 1 .*is ready", count=2)
        yield new, busy, children(new)
    finally:
        os.kill(one.pid, signal.SIGCONT)


@pytest.mark.parametrize("drain", [(), ("--drain-delay", "1h")], ids=["", "drain"])
@pytest.mark.parametrize("name", ["TERM", "INT", "KILL"])
def test_one_that_ends_when_it_is_ready_takes_over_nothing(
    line: Begin, app: Path, gate: Path, name: str, drain: tuple[str, ...]
) -> None:
    """And gives back what it serves, if it is told to end in good order."""
    one = line("-p", str(app / "pid"), "-w", "2", *drain, "shop", cwd=app, errors=(REFUSED,))
    one.server.wait_for("is ready", count=2)
    ours = [b"%d" % pid for pid in one.server.workers()]
    with unheard(one, app, gate) as (new, busy, heirs):
        served = [one.server.connect() for _ in range(4)]
        assert all(int(client.get("/pid")[1]) in heirs for client in served)
        os.kill(new, getattr(signal, f"SIG{name}"))
        assert all(wait_for_death(pid) for pid in heirs)
    one.server.wait_for(REFUSED)
    assert wait_for_death(new)
    gate.open("w").close()
    for client in busy:
        assert client.response().status == 200
    for client in (*busy, *(served if name == "TERM" else ())):
        status, pid = client.get("/pid")
        assert (status, pid in ours) == (200, True)
    for client in (*busy, *served):
        client.socket.close()
    assert sorted(path.name for path in app.glob("pid*")) == ["pid", "pid.ctl"]


def test_a_term_that_comes_with_the_word_that_the_new_one_is_ready_ends_both(
    line: Begin, app: Path, gate: Path
) -> None:
    one = line("-p", str(app / "pid"), "-w", "2", "shop", cwd=app)
    with unheard(one, app, gate) as (new, busy, _):
        os.kill(one.pid, signal.SIGTERM)
    one.server.wait_for(rf"pid {one.pid}\] TERM: stopping")
    gate.open("w").close()
    for client in busy:
        assert client.response().status == 200
        client.socket.close()
    assert wait_for_death(new)
    assert wait_for_death(one.pid)
    assert "takes the place" not in one.server.log
    assert list(app.glob("pid*")) == []


def test_the_old_one_is_waited_for_as_long_as_it_may_take(
    line: Begin, app: Path, gate: Path
) -> None:
    """Not as long as the settings of the new one say, which has stopped by then."""
    config = app / "f.toml"
    config.write_text('app = "shop"\n')
    one = line("-c", str(config), cwd=app)
    old = one.pid
    (client,) = in_calls(one.server, 1, gate)
    config.write_text('app = "shop"\ngraceful_timeout = 0.1\n')
    one.pid = one.usr2()
    one.server.wait_for("takes the place")
    os.kill(one.pid, signal.SIGTERM)
    one.server.wait_for(rf"pid {one.pid}\] worker 0 .* has left")
    assert not wait_for_death(one.pid, 0.5)
    gate.open("w").close()
    assert client.response().status == 200
    client.socket.close()
    assert wait_for_death(old)
    assert wait_for_death(one.pid)


def test_a_second_term_of_a_group_cuts_nothing_off(line: Begin, app: Path, gate: Path) -> None:
    """The new one is called off, and the service is stopped while it still answers."""
    one = line("-w", "2", "shop", cwd=app, errors=(REFUSED,))
    other = app / "other"
    os.mkfifo(other)
    with unheard(one, app, gate) as (new, busy, _), one.server.connect() as client:
        client.send(f"GET /wait?{other} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        one.server.wait_for("^waiting", count=3)
        for text in ("and this one ends", "TERM: this process is ending already"):
            os.kill(new, signal.SIGTERM)
            one.server.wait_for(rf"pid {new}\] .*{text}")
        os.kill(one.pid, signal.SIGCONT)
        for fifo in (gate, other):
            fifo.open("w").close()
        for item in (*busy, client):
            assert item.response().status == 200
            item.socket.close()
        assert wait_for_death(new)


def test_quit_while_the_old_one_still_answers(line: Begin) -> None:
    one = line("plain")
    old = one.pid
    with one.server.connect() as client:
        client.send(b"GET /sleep HTTP/1.1\r\nHost: h\r\n\r\n")
        one.server.wait_for("is ready")
        one.pid = one.usr2()
        one.server.wait_for("takes the place")
        one.end("QUIT")
        assert wait_for_death(old, 0)


@pytest.mark.parametrize("ready", [False, True])
def test_the_old_one_is_killed_meanwhile(slow: Line, app: Path, gate: Path, ready: bool) -> None:
    old, server = slow.pid, slow.server
    workers = children(old)
    new = slow.usr2()
    server.wait_for("^booting", count=2)
    if ready:  # but not heard
        os.kill(old, signal.SIGSTOP)
        with gate.open("w"):
            server.wait_for(rf"pid {new}\] worker \d gen 1 .*is ready", count=2)
    os.kill(old, signal.SIGKILL)
    slow.pid = new
    server.wait_for(f"USR2: this process goes on without process {old}")
    if not ready:
        with gate.open("w"):
            server.wait_for(rf"pid {new}\] worker \d gen 1 .*is ready", count=2)
    server.wait_for("the upgrade is done")
    assert (app / "pid").read_text() == f"{new}\n"
    # Those of the old one die with it, and a moment later: what they accept until then is reset.
    assert all(wait_for_death(pid) for pid in workers)
    assert server.get() == (200, b"hello")
    (app / "shop.py").write_text(PLAIN)
    slow.upgrade()
    slow.end()
    assert list(app.glob("pid*")) == []


def test_the_new_one_is_killed_meanwhile(slow: Line, app: Path) -> None:
    before = slow.server.workers()
    new = slow.usr2()
    slow.server.wait_for("^booting", count=2)
    assert (app / "pid.2").read_text() == f"{new}\n"
    orphans = children(new)
    os.kill(new, signal.SIGKILL)
    slow.server.wait_for(f"{REFUSED}.*It ended with SIGKILL before it was ready")
    assert all(wait_for_death(pid, 1.0) for pid in orphans)
    assert sorted(path.name for path in app.glob("pid*")) == ["pid", "pid.ctl"]
    assert (slow.server.workers(), slow.server.get()) == (before, (200, b"hello"))
    (app / "shop.py").write_text(PLAIN)
    slow.upgrade()


def test_a_failed_upgrade_leaves_no_descriptor(slow: Line, app: Path) -> None:
    before = descriptors(slow.pid)
    (app / "shop.py").write_text("import nonsense")
    slow.usr2()
    slow.server.wait_for(REFUSED)
    assert_descriptors_are_again(slow.pid, before)


def test_term_at_any_moment_of_an_upgrade_leaves_nothing(line: Begin, app: Path) -> None:
    for delay in range(0, 600, int(os.environ.get("FORKSERVE_STEP", "120"))):
        one = line("-p", str(app / "pid"), "shop", cwd=app)
        new = one.usr2()
        wait_for_death(new, delay / 1000)
        found = [one.pid, new, *children(one.pid), *children(new)]
        os.kill(one.pid, signal.SIGTERM)
        assert wait_for_death(one.pid, 5)
        if "takes the place" in one.server.log:  # it came too late for both
            os.kill(new, signal.SIGTERM)
        assert [pid for pid in found if not wait_for_death(pid, 5)] == []
        assert list(app.glob("pid*")) == []


def test_unix_sockets_keep_their_path(line: Begin, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    one = line("-b", f"unix:{path},mode=640", "plain")
    inode = path.stat().st_ino
    for _ in range(2):
        one.upgrade()
        assert path.stat().st_ino == inode
        with unix_client(path) as client:
            assert client.get() == (200, b"hello")
    one.end()
    assert not path.exists()


def test_the_addresses_can_change(line: Begin, app: Path) -> None:
    kept, given_up, added = (app / name for name in ("kept", "old", "new"))
    config = app / "f.toml"
    config.write_text(f'app = "shop"\nbind = ["unix:{kept}", "unix:{given_up}"]')
    one = line("-c", str(config), cwd=app, bind=None)
    config.write_text(f'app = "shop"\nbind = ["unix:{added}", "unix:{kept}"]')
    one.upgrade()
    assert not given_up.exists()
    for path in (kept, added):
        with unix_client(path) as client:
            assert client.get() == (200, b"hello")
    one.end()
    assert list(app.glob("*[dw]")) == []


def test_nobody_sees_the_variable_or_a_descriptor(line: Begin) -> None:
    one = line("plain")
    (worker,) = one.server.workers()
    before = descriptors(worker)
    one.upgrade()
    (worker,) = children(one.pid)
    assert descriptors(worker) == before
    assert one.server.get("/environ?FORKSERVE_UPGRADE") == (200, b"None")


@pytest.mark.parametrize("by", ["script", "module", "module by PATH"])
def test_what_is_behind_a_link_is_started(
    line: Begin, app: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """A deploy makes a new virtual environment, and lets the link point to it."""
    for name in ("one", "two"):
        binary = app / name / "bin"
        binary.mkdir(parents=True)
        (binary / "python").symlink_to(sys.executable)
        (app / name / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
        (app / name / "lib").symlink_to(Path(sys.executable).parents[1] / "lib")
        (binary / "forkserve").write_text(
            f"#!{binary}/python\nfrom forkserve.cli import main\nmain()\n"
        )
        (binary / "forkserve").chmod(0o755)
    (app / "shop.py").write_text(PLAIN.replace('b"hello"', "sys.prefix.encode()"))
    link = app / "current"
    link.symlink_to("one")
    command, env = str(link / "bin" / "forkserve"), {"PATH": f"{link}/bin:{os.environ['PATH']}"}
    arguments: tuple[str, ...] = ("shop",)
    if by != "script":
        python = str(link / "bin" / "python") if by == "module" else "python"
        runner = app / "run"
        runner.write_text(f'#!/bin/sh\nexec {python} -m forkserve "$@"\n')
        runner.chmod(0o755)
        command = str(runner)
    monkeypatch.setattr("tests.command.harness.COMMAND", command)
    one = line(*arguments, cwd=app, env=env)
    expected = "one" if by == "script" else "current"
    assert one.server.get()[1].decode() == str(app / expected)
    link.unlink()
    link.symlink_to("two")
    one.upgrade()
    if by == "script":
        assert one.server.get()[1].decode() == str(app / "two")
    assert os.readlink(f"/proc/{one.pid}/exe")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_term_to_all_processes_at_once_cuts_nothing_off(
    line: Begin, app: Path, gate: Path, moment: str
) -> None:
    """As with KillMode=control-group: the masters are told by each other, and directly."""
    boot = app / "boot"
    os.mkfifo(boot)
    one = line("-w", "2", "shop", cwd=app)
    one.server.wait_for("is ready", count=2)
    (app / "shop.py").write_text(f"open({str(boot)!r}).close()\n{PLAIN}")
    old = one.pid
    with one.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        one.server.wait_for("^waiting")
        new = one.usr2()
        if moment == "after":
            with boot.open("w"):
                one.server.wait_for("this process takes the place")
        else:
            one.server.wait_for(f"process {new} boots")
        for pid in [new, old, *children(new), *children(old)]:
            with contextlib.suppress(ProcessLookupError):  # who has nothing to do is gone already
                if pid != new:
                    os.kill(pid, signal.SIGTERM)
        os.kill(new, signal.SIGTERM)
        one.server.wait_for(rf"pid {old}\] TERM: ")
        gate.open("w").close()
        assert client.response().status == 200
    for pid in (old, new):
        assert wait_for_death(pid)
    assert "are cut off" not in one.server.log


def test_a_storm_of_signals_and_upgrades_leaves_nothing(line: Begin, app: Path) -> None:
    one = line("-p", str(app / "pid"), "-w", "2", "shop", cwd=app)
    names = ("HUP", "USR2", "USR1", "TTIN", "TTOU", "CHLD", "USR2", "HUP")
    for number in range(1000):
        one.server.signal(names[number % len(names)])
    with Load(one.server.port) as load:
        load.wait_for(100)
        assert set(load.stop()) <= {200, "closed"}
    while not wait_for_death(one.pid, 0):
        heirs = re.findall(r"USR2: process (\d+) boots", one.server.log)
        os.kill(one.pid, signal.SIGTERM)
        assert wait_for_death(one.pid)
        if (
            f"USR2: process {one.pid} serves now" in one.server.log
            or "takes the place" in one.server.log
        ):
            one.pid = int(heirs[-1])
    for pid in re.findall(r"USR2: process (\d+) boots", one.server.log):
        assert wait_for_death(int(pid), 5.0)
    assert list(app.glob("pid*")) == []


@pytest.mark.parametrize("how", ["broken", "called off"])
def test_who_shares_a_socket_may_not_close_it_for_the_other(
    line: Begin, app: Path, how: str
) -> None:
    path = app / "socket"
    one = line(
        "-b", f"unix:{path}", "-b", "127.0.0.1:0", "shop", cwd=app,
        errors=(REFUSED, "could not boot", "no worker could boot"),
    )  # fmt: skip
    port = int(one.server.wait_for(r"http://127.0.0.1:(\d+) with")[0][1])
    inode = path.stat().st_ino
    code = "import nonsense" if how == "broken" else "import time; time.sleep(100)"
    (app / "shop.py").write_text(code)
    new = one.usr2()
    if how == "called off":
        wait_for_death(new, 0.5)
        os.kill(new, signal.SIGTERM)
    one.server.wait_for(REFUSED)
    assert path.stat().st_ino == inode
    with unix_client(path) as client:
        assert client.get() == (200, b"hello")
    one.server.port = port
    assert one.server.get() == (200, b"hello")


def test_connections_are_handed_to_the_new_one(line: Begin) -> None:
    """Idle, silent and half-sent ones: the queue is inherited with the listeners."""
    one = line("-w", "2", "plain")
    clients = [one.server.connect() for _ in range(9)]
    for idle in clients[:3]:
        assert idle.get() == (200, b"hello")
    for half in clients[3:6]:
        half.send(b"GET /pid HTTP/1.1\r\n")
    for _ in range(3):
        one.upgrade()
    workers = [str(pid).encode() for pid in children(one.pid)]
    for number, client in enumerate(clients):
        client.send(
            b"Host: h\r\n\r\n" if number in (3, 4, 5) else b"GET /pid HTTP/1.1\r\nHost: h\r\n\r\n"
        )
        response = client.response()
        assert response.content in workers  # type: ignore[attr-defined]
        assert response.getheader("Connection") is None
        client.socket.close()


def test_a_new_one_that_is_half_ready_gives_back_what_it_serves(
    line: Begin, app: Path, gate: Path
) -> None:
    """One of its workers hangs at each boot, the other has accepted connections by then."""
    one = line(
        "-w", "2", "--boot-timeout", "4", "shop", cwd=app, errors=(REFUSED, "could not boot")
    )  # fmt: skip
    one.server.wait_for("is ready", count=2)
    hang_but_one(app)
    new = one.usr2()
    one.server.wait_for(rf"pid {new}\] worker \d gen 1 .*is ready")
    (served,) = [pid for pid in children(new) if f"(pid {pid}) is ready" in one.server.log]
    old = in_calls(one.server, 2, gate)
    clients: list[Client] = []
    while len(clients) < 2:
        client = one.server.connect()
        if client.get("/pid") == (200, b"%d" % served):
            clients.append(client)
    busy, idle = clients
    busy.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    one.server.wait_for("^waiting", count=3)
    one.server.wait_for(REFUSED)
    one.server.wait_for(f"process {one.pid} serves now, and this one ends")
    gate.open("w").close()
    for client in (busy, *old):
        assert client.response().status == 200
    assert wait_for_death(new)
    for client in old:
        client.socket.close()
    for client in (busy, idle):
        status, pid = client.get("/pid")
        assert (status, int(pid) in one.server.workers()) == (200, True)
        client.socket.close()
