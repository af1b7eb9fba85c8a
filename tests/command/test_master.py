"""The master: replaces, reloads, stops, and dies, with real processes and under load."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import (
    APPS,
    COMMAND,
    PLAIN,
    Client,
    Server,
    Tail,
    children,
    clean_environ,
    descriptors,
    unix_client,
    wait_for_death,
)
from tests.command.load import Load

Start = Callable[..., Server]


# ---- deaths


def test_a_killed_worker_is_replaced_and_only_its_requests_are_lost(start: Start) -> None:
    server = start("-w", "4", "plain", errors=("died: SIGKILL",))
    server.wait_for("is ready", count=4)
    with Load(server.port) as load:
        for kills in range(1, 11):
            load.wait_for(50)
            ready = {int(found[1]) for found in server.wait_for(r"\(pid (\d+)\) is ready")}
            victim = next(pid for pid in server.workers() if pid in ready)
            os.kill(victim, signal.SIGKILL)
            server.wait_for("died: SIGKILL", count=kills)
            load.wait_for(50)
        outcomes = load.stop()
    lost = outcomes["lost"] + outcomes["closed"]
    assert lost <= 10 * 4, outcomes  # no more than the connections that the dead held
    assert set(outcomes) <= {200, "lost", "closed"}, outcomes
    server.wait_for("is ready", count=14)
    assert len(server.workers()) == 4


def test_the_log_says_how_and_in_which_request_a_worker_died(start: Start) -> None:
    server = start("plain", errors=("died:",))
    with server.connect() as client:
        client.send(b"GET /exit HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.rest() == b""
    line = server.wait_for("died: ")[0].string
    assert "exit status 7" in line
    assert "in the request 'GET /exit HTTP/1.1'" in line
    server.wait_for("is ready", count=2)
    with server.connect() as client:
        client.send(b"GET /kill HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.rest() == b""
    assert server.wait_for("died: SIGSEGV")
    server.wait_for(r"plain.py.* in do_kill")  # faulthandler's stack
    server.wait_for("is ready", count=3)
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_for("died: SIGKILL .*between requests")


def test_workers_die_with_their_master_also_stopped_and_hung_ones(start: Start) -> None:
    server = Server("-w", "4", "-b", "127.0.0.1:0", "plain").up()
    server.wait_for("is ready", count=4)
    workers = server.workers()
    with server.connect() as client:
        client.send(b"GET /spin HTTP/1.1\r\nHost: h\r\n\r\n")
        server.wait_for("^spinning")
        os.kill(workers[1], signal.SIGSTOP)
        began = time.monotonic()
        server.process.kill()
        assert all(wait_for_death(pid, 1.0) for pid in workers)
        assert time.monotonic() - began < 1.0
    server.wait()
    again = start("-b", f"127.0.0.1:{server.port}", "plain")
    assert again.get() == (200, b"hello")


def test_a_crash_loop_is_slow_and_ends_by_itself(start: Start, app: Path) -> None:
    (app / "shop.py").write_text(PLAIN)
    server = start("-w", "2", "shop", cwd=app, errors=("died:", "could not boot"))
    server.wait_for("is ready", count=2)
    (app / "shop.py").write_text("raise RuntimeError('broken while it runs')\n")
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_for("could not boot; it is replaced in", count=2)
    assert server.get("/hello") == (200, b"hello")
    assert server.log.count("Traceback") == 1
    (app / "shop.py").write_text(PLAIN)
    server.wait_for("is ready", count=3)
    assert len(server.workers()) == 2


def test_requests_that_kill_workers_are_over_soon(start: Start) -> None:
    """Each worker that is born meets the next one, which waits in the kernel for it."""
    server = start("-w", "2", "plain", errors=("died: SIGKILL",))
    server.wait_for("is ready", count=2)
    for _ in range(10):
        with server.connect() as client:
            client.send(b"GET /kill?9 HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.rest() == b""
    began = time.monotonic()
    assert server.get() == (200, b"hello")
    assert time.monotonic() - began < 3.0
    pauses = server.wait_for(r"died: SIGKILL.*it is replaced (?:now|in (\S+) s)", count=10)
    assert max(float(found[1] or 0) for found in pauses) == 2.0


def test_a_worker_that_is_told_to_end_by_its_pid_loses_nothing(start: Start) -> None:
    server = start("-w", "2", "plain")
    server.wait_for("is ready", count=2)
    with Load(server.port) as load:
        for count in range(1, 6):
            load.wait_for(20)
            os.kill(server.workers()[0], signal.SIGTERM)
            server.wait_for("was told to end by somebody else; it is replaced", count=count)
            server.wait_for("is ready", count=2 + count)
            server.wait_for("has left", count=count)
        load.wait_for(20)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    assert len(server.workers()) == 2


def test_whatever_keeps_a_worker_from_booting_is_told(tmp_path: Path) -> None:
    """Also what is no fault of the application; and then the exit status is another."""
    (tmp_path / "shop.py").write_text(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "def application(environ, start_response): pass\n"
    )
    server = Server("-w", "2", "-b", "127.0.0.1:0", "shop", cwd=tmp_path)
    assert server.wait() == 1
    assert len(server.wait_for("could not boot. OSError: .* Too many open files")) == 1
    server.wait_for("no worker could boot, so there is nothing to serve: exiting")


# ---- stuck calls


@pytest.mark.parametrize(("route", "where"), [("spin", "do_spin"), ("sleep", "do_sleep")])
def test_a_stuck_call_is_ended_with_its_stack_in_the_log(
    start: Start, route: str, where: str
) -> None:
    server = start("-w", "1", "-t", "1", "plain", errors=("longer than `timeout`",))
    with server.connect() as other, server.connect() as client:
        assert other.get("/")[0] == 200
        began = time.monotonic()
        client.send(f"GET /{route} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        response = client.response()
        assert 1.0 <= time.monotonic() - began < 2.0
        assert response.status == 504
        line = server.wait_for("longer than `timeout`")[0].string
        assert f"'GET /{route} HTTP/1.1'" in line
        assert "longer than `timeout` from --timeout allows" in line
        server.wait_for(rf'File ".*plain.py", line \d+, in {where}')
        server.wait_for("is ready", count=2)
        server.wait_for("has left")
        assert other.get("/")[0] == 200  # on the same connection


def test_a_call_that_holds_the_gil_is_ended_too(start: Start) -> None:
    server = start("-t", "1", "stuck_in_c", errors=("longer than `timeout`",))
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.rest() == b""
    server.wait_for(r'File ".*stuck_in_c.py", line \d+ in application')


def test_streams_and_uploads_that_make_progress_are_not_stuck(start: Start) -> None:
    server = start("-t", "1", "slow_stream")
    with server.connect() as client:
        status, body = client.get("/")
        assert (status, len(body)) == (200, 15)
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n")
        for _ in range(20):
            client.send(b"x" * 100000)
            select_nothing(0.1)
        assert client.response().status == 200


def select_nothing(seconds: float) -> None:
    """A slow client: the pause is what is tested."""
    import select

    select.select([], [], [], seconds)


def test_nobody_is_killed_after_the_master_was_stopped(start: Start, gate: Path) -> None:
    server = start("-t", "1", "plain")
    (worker,) = server.workers()
    with server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        select_nothing(0.2)
        os.kill(server.pid, signal.SIGSTOP)
        os.kill(worker, signal.SIGSTOP)
        select_nothing(2.5)
        os.kill(worker, signal.SIGCONT)
        os.kill(server.pid, signal.SIGCONT)
        select_nothing(0.2)
        gate.write_text("")
        assert client.response().status == 200
    assert "longer than" not in server.log


# ---- reload


@pytest.mark.parametrize("boot", [0.0, 0.3])
def test_hup_under_load_loses_nothing(start: Start, app: Path, boot: float) -> None:
    """Busy clients lose nothing: the answer on a connection that must end says so."""
    (app / "shop.py").write_text(f"import time\ntime.sleep({boot})\n{PLAIN}")
    server = start("-w", "2", "shop", cwd=app)
    server.wait_for("is ready", count=2)
    with Load(server.port) as load:
        for generation in range(2, 6):
            load.wait_for(20)
            server.reload(generation)
        load.wait_for(20)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    assert server.get("/generation") == (200, b"5")


def test_hup_takes_up_new_code(start: Start, app: Path) -> None:
    server = start("-w", "2", "shop", cwd=app)
    (app / "shop.py").write_text(PLAIN.replace('b"hello"', 'b"new"'))
    server.reload(2)
    assert server.get() == (200, b"new")


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("def application(:\n", "SyntaxError"),
        ("import not_installed\n", "No module named 'not_installed'"),
        ("application = 5\n", "must be callable"),
        ("import os\nos._exit(9)\n", "ended with exit status 9"),
    ],
)
def test_hup_with_a_broken_application_under_load_keeps_the_old_one(
    start: Start, app: Path, code: str, part: str
) -> None:
    server = start("-w", "3", "shop", cwd=app, errors=("reload refused",))
    server.wait_for("is ready", count=3)
    before = server.workers()
    (app / "shop.py").write_text(code)
    with Load(server.port) as load:
        for count in range(1, 5):
            server.signal("HUP")
            server.wait_for("reload refused", count=count)
            load.wait_for(20)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    assert server.workers() == before
    assert part in server.log
    line = server.wait_for("reload refused")[0].string
    assert "generation 1 goes on serving unchanged" in line
    (app / "shop.py").write_text(PLAIN)
    server.reload(2)
    assert server.get() == (200, b"hello")


def test_hup_with_an_application_that_hangs(start: Start, app: Path) -> None:
    server = start("--boot-timeout", "1", "shop", cwd=app, errors=("reload refused",))
    before = server.workers()
    (app / "shop.py").write_text("import time\ntime.sleep(600)\n")
    server.signal("HUP")
    assert "`boot_timeout`" in server.wait_for("reload refused")[0].string
    assert server.workers() == before
    assert server.get() == (200, b"hello")


def test_hup_reads_the_settings_anew(start: Start, app: Path) -> None:
    config = app / "f.toml"
    config.write_text('app = "shop"\nworkers = 1\n')
    server = start("-c", str(config), cwd=app, errors=("reload refused",))
    config.write_text('app = "shop"\nworkers = 3\nenv = ["COLOUR=blue"]\n')
    server.reload(2)
    assert server.get("/environ?COLOUR") == (200, b"blue")
    server.wait_for("has left")
    assert len(server.workers()) == 3
    before = server.workers()
    config.write_text('app = "shop"\nwrokers = 3\ntimeout = -1\n')
    server.signal("HUP")
    server.wait_for("reload refused")
    server.wait_for("did you mean workers?")
    server.wait_for("timeout: -1 is not a time")
    assert server.workers() == before


SLOW_NAMES = """
import os, socket
real = socket.getaddrinfo
def getaddrinfo(host, *others, **named):
    if host == "slow.example":
        open(os.environ["GATE"]).read()
        host = "127.0.0.1"
    return real(host, *others, **named)
socket.getaddrinfo = getaddrinfo
"""


@pytest.mark.parametrize("setting", ["statsd_host", "error_logfile", "access_logfile"])
def test_the_master_does_not_wait_for_names_of_other_machines(
    start: Start, app: Path, gate: Path, setting: str
) -> None:
    (app / "sitecustomize.py").write_text(SLOW_NAMES)
    config = app / "f.toml"
    config.write_text('app = "shop"\nworkers = 1\n')
    env = {"PYTHONPATH": str(app), "GATE": str(gate)}
    server = start("-c", str(config), cwd=app, env=env)
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(10)
        where = f"slow.example:{udp.getsockname()[1]}"
        value = where if setting == "statsd_host" else f"syslog+udp://{where}"
        config.write_text(f'app = "shop"\nworkers = 1\n{setting} = "{value}"\n')
        server.signal("HUP")
        server.wait_for("HUP: loading generation 2")
        server.signal("USR1")
        server.wait_for("USR1: the log files are open anew")
        gate.write_text("")
        while server.get("/generation") != (200, b"2"):
            pass
        assert udp.recv(9999)
    assert server.stop() == 0


def test_hup_can_change_the_addresses(start: Start, app: Path) -> None:
    config = app / "f.toml"

    def write(*addresses: str) -> None:
        text = ", ".join(f'"{address}"' for address in addresses)
        config.write_text(f'app = "shop"\nbind = [{text}]\n')

    with socket.socket() as taken, socket.socket() as probe:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        probe.bind(("127.0.0.1", 0))
        old = probe.getsockname()
        probe.close()
        write("127.0.0.1:0", f"unix:{app}/one", f"127.0.0.1:{old[1]}")
        server = start("-c", str(config), cwd=app, bind=None, errors=("reload refused",))
        write("127.0.0.1:0", f"unix:{app}/two", busy)
        server.signal("HUP")
        assert f"cannot listen on {busy}" in server.wait_for("cannot listen")[0].string
        assert not (app / "two").exists()
    write("127.0.0.1:0", f"unix:{app}/two")
    server.reload(2)
    assert not (app / "one").exists()
    server.wait_for("has left")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(old)
    with unix_client(app / "two") as client:
        assert client.get() == (200, b"hello")
    assert server.get() == (200, b"hello")


def test_many_reloads_leak_no_descriptor(start: Start, app: Path) -> None:
    server = start(
        "-w", "2", "--error-logfile", str(app / "log"), "--access-logfile", str(app / "access"),
        "-p", str(app / "pid"), "shop", cwd=app, up=False,
    )  # fmt: skip
    with Tail(app / "log") as log:
        log.wait_for("serves shop")
        log.wait_for("gen 1 .*is ready", count=2)
        before = descriptors(server.pid)
        for generation in range(2, 12):
            server.signal("HUP")
            log.wait_for(f"reloaded, generation {generation} serves")
        log.wait_for("has left", count=20)
        assert descriptors(server.pid) == before
        (app / "shop.py").write_text("broken(")
        server.signal("HUP")
        log.wait_for("reload refused")
        assert descriptors(server.pid) == before


# ---- stopping


@pytest.mark.parametrize("idle", [0, 5])
def test_term_answers_running_requests(start: Start, gate: Path, idle: int) -> None:
    server = start("plain")
    others = [server.connect() for _ in range(idle)]
    assert all(client.get()[0] == 200 for client in others)
    with server.connect() as client, server.connect() as waiting:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        server.wait_for("^waiting")
        waiting.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
        server.signal("TERM")
        server.wait_for("TERM: stopping")
        gate.write_text("")
        response = client.response()
        assert response.content == b"waited"  # type: ignore[attr-defined]
        assert waiting.response().content == b"hello"  # type: ignore[attr-defined]
        # An answer that begins after the worker has heard of it announces the close.
        while response.getheader("Connection") != "close":
            client.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
            response = client.response()
        assert client.rest() == b""
    assert server.wait() == 0
    for item in others:
        assert item.rest() == b""
        item.socket.close()


def test_term_answers_requests_that_wait_to_be_accepted(start: Start, gate: Path) -> None:
    server = start("plain")
    with server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        server.wait_for("^waiting")
        queued = [server.connect() for _ in range(50)]
        for item in queued:
            item.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
        server.signal("TERM")
        server.wait_for("TERM: stopping")
        gate.write_text("")
        assert client.response().status == 200
        for item in queued:
            assert item.response().content == b"hello"  # type: ignore[attr-defined]
            item.socket.close()
    assert server.wait() == 0


def test_term_under_a_steady_load_comes_to_an_end(start: Start, tmp_path: Path) -> None:
    """New connections that come faster than they are served do not keep it from leaving."""
    access = tmp_path / "access"
    server = start("--graceful-timeout", "3", "--access-logfile", str(access), "plain")
    with Load(server.port, "/sleep?0.005", body=b"slept", once=True, clients=8) as load:
        load.wait_for(20)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 2.0
        outcomes = load.stop()
    assert "did not leave" not in server.log
    assert outcomes[200] == len(access.read_text().splitlines())
    assert outcomes["lost"] + outcomes["closed"] == 0, outcomes


def test_term_kills_what_does_not_finish(start: Start) -> None:
    server = start("--graceful-timeout", "1", "plain")
    with server.connect() as client:
        client.send(b"GET /sleep HTTP/1.1\r\nHost: h\r\n\r\n")
        server.wait_for("^sleeping")
        began = time.monotonic()
        assert server.stop() == 0
        assert 0.9 < time.monotonic() - began < 3.0
    server.wait_for("did not leave within `graceful_timeout`")


@pytest.mark.parametrize("name", ["INT", "QUIT"])
def test_int_and_quit_stop_soon(start: Start, name: str) -> None:
    server = start("plain")
    with server.connect() as client:
        client.send(b"GET /sleep HTTP/1.1\r\nHost: h\r\n\r\n")
        server.wait_for("^sleeping")
        began = time.monotonic()
        assert server.stop(name) == 0
        assert time.monotonic() - began < 3.0


def test_ctrl_c_at_a_terminal_reaches_the_master_alone(start: Start, tmp_path: Path) -> None:
    """The terminal signals a whole process group; the workers are not in it."""
    server = start("-w", "2", "plain", process_group=0)
    server.wait_for("is ready", count=2)
    assert {os.getpgid(pid) for pid in server.workers()} == set(server.workers())
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait() == 0


def test_term_at_any_moment_of_the_start_leaves_nothing(tmp_path: Path) -> None:
    for milliseconds in range(0, 200, 8):
        process = subprocess.Popen(
            [COMMAND, "-w", "2", "-b", "127.0.0.1:0", "plain"],
            cwd=APPS, env=clean_environ(), stderr=subprocess.PIPE,
        )  # fmt: skip
        select_nothing(milliseconds / 1000)
        pids = children(process.pid)
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert all(wait_for_death(pid, 1.0) for pid in pids)
        assert b"Traceback" not in errors


def test_a_worker_that_is_signalled_like_its_master_leaves_in_peace(start: Start) -> None:
    """A service manager may signal the whole cgroup."""
    server = start("-w", "2", "plain", errors=("died: exit status 0",))
    server.wait_for("is ready", count=2)
    before = server.workers()
    for _ in range(20):
        # All at once: their handlers interrupt each other.
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
            for name in ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH"):
                os.kill(pid, getattr(signal, f"SIG{name}"))
            os.kill(pid, signal.SIGCONT)
    assert [server.get() for _ in range(20)] == [(200, b"hello")] * 20
    assert server.workers() == before
    for pid in (*server.workers(), server.pid):
        os.kill(pid, signal.SIGTERM)
    assert server.wait() == 0


# ---- signals


def test_ttin_ttou_and_winch(start: Start) -> None:
    server = start("plain")
    server.signal("TTIN")
    server.wait_for("from 1 to 2 workers")
    server.wait_for("is ready", count=2)
    server.signal("TTOU")
    server.wait_for("from 2 to 1 worker$")
    server.wait_for("has left")
    assert len(server.workers()) == 1
    server.signal("TTOU")
    server.wait_for("1 worker is the bound")
    server.signal("WINCH")
    server.wait_for("has left", count=2)
    assert server.workers() == []
    server.signal("TTIN")
    server.wait_for("is ready", count=3)
    assert server.get() == (200, b"hello")


def test_resizing_the_window_of_a_terminal_retires_nobody() -> None:
    master_end, terminal = os.openpty()
    process = subprocess.Popen(
        [COMMAND, "-b", "127.0.0.1:0", "--log-level", "debug", "plain"],
        cwd=APPS, env=clean_environ(), stdin=terminal, stdout=terminal, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "is ready" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGWINCH)
    process.send_signal(signal.SIGUSR1)
    seen = []
    while "open anew" not in (seen or [""])[-1]:
        seen.append(process.stderr.readline())
    assert "WINCH" not in "".join(seen)
    process.terminate()
    assert process.wait(30) == 0
    process.stderr.close()
    os.close(master_end)
    os.close(terminal)


@pytest.mark.parametrize(
    ("options", "faulthandler"), [((), ""), ((), "1"), (("--preload",), "")], ids=str
)
def test_a_storm_of_signals_loses_none_that_matters(
    start: Start, options: tuple[str, ...], faulthandler: str
) -> None:
    """With --preload also workers that are not wanted any more before they are forked."""
    server = start(*options, "-w", "2", "plain", env={"PYTHONFAULTHANDLER": faulthandler})
    names = ("HUP", "USR1", "TTIN", "TTOU", "CHLD", "HUP")
    for number in range(1000):
        server.signal(names[number % len(names)])
    for name in ("STOP", *names, "WINCH", "TTIN", "CONT", "TERM"):
        server.signal(name)
    assert server.wait() == 0


def test_usr1_reopens_the_logs(start: Start, tmp_path: Path) -> None:
    access, error = tmp_path / "access", tmp_path / "error"
    server = start(
        "-w", "2", "--access-logfile", str(access), "--error-logfile", str(error), "plain", up=False
    )
    with Tail(error) as log:
        log.wait_for("is ready", count=2)
        server.port = int(log.wait_for(r"http://127.0.0.1:(\d+)")[0][1])
        with Load(server.port) as load:
            for number in range(10):
                load.wait_for(50)
                access.rename(tmp_path / f"access.{number}")
                error.rename(tmp_path / f"error.{number}")
                server.signal("USR1")
                log.wait_for("the log files are open anew", count=number + 1)
            load.wait_for(50)
            outcomes = load.stop()
        assert server.stop() == 0
        log.wait_for("stopped")
    lines = [line for path in tmp_path.glob("access*") for line in path.read_text().splitlines()]
    assert len(lines) == sum(outcomes.values())
    assert all(line.endswith('"GET /hello HTTP/1.1" 200 5 "-" "-"') for line in lines)


# ---- what it holds


def test_the_pid_file(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")  # of a live process that is no forkserve
    server = start("-p", str(path), "plain")
    assert path.read_text() == f"{server.pid}\n"
    second = Server("-b", "127.0.0.1:0", "-p", str(path), "plain")
    assert second.wait() == 1
    assert f"another forkserve (pid {server.pid}) holds the pid file" in second.log
    assert server.get() == (200, b"hello")
    assert path.read_text() == f"{server.pid}\n"
    assert server.stop() == 0
    assert not path.exists()


def test_a_failed_start_leaves_no_pid_file(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    server = Server("-b", "127.0.0.1:0", "-p", str(path), "missing_module")
    assert server.wait() == 3
    assert not path.exists()


def test_unix_sockets(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = start("-b", f"unix:{path},mode=640", "plain")
    assert path.stat().st_mode & 0o777 == 0o640
    with unix_client(path) as client:
        assert client.get() == (200, b"hello")
        assert client.get("/environ?REMOTE_ADDR") == (200, b"")
        assert client.get("/environ?SERVER_NAME") == (200, b"localhost")
    second = Server("-b", f"unix:{path}", "plain")
    assert second.wait() == 1
    assert "another program is listening there" in second.log
    with unix_client(path) as client:
        assert client.get() == (200, b"hello")
    assert server.stop() == 0
    assert not path.exists()
    path.write_text("precious")
    third = Server("-b", f"unix:{path}", "plain")
    assert third.wait() == 1
    assert "is not a socket" in third.log
    assert path.read_text() == "precious"


def test_ipv6_and_several_addresses(start: Start) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = start("-b", "127.0.0.1:0", "-b", "[::1]:0", "plain")
    port = int(server.wait_for(r"http://\[::1\]:(\d+)")[0][1])
    with Client(socket.create_connection(("::1", port), timeout=30)) as client:
        assert client.get("/environ?REMOTE_ADDR") == (200, b"::1")
    assert server.get() == (200, b"hello")


def test_inherited_descriptors(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = start("-b", f"fd://{listener.fileno()}", "plain", pass_fds=[listener.fileno()])
        assert server.port == listener.getsockname()[1]
        assert server.get() == (200, b"hello")
        server.reload(2)
        assert server.get() == (200, b"hello")
    missing = Server("-b", "fd://77", "plain")
    assert missing.wait() == 1
    assert "no such descriptor was handed to this process" in missing.log


def test_privileges_are_dropped_for_good(start: Start) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o777)
        access = place / "access"
        # An application that imports nothing new: nobody may not be able to read this Python.
        (place / "bare.py").write_text((APPS / "bare.py").read_text())
        server = start(
            "-u", "nobody", "-g", "nogroup", "-m", "077", "--access-logfile", str(access),
            "-b", "127.0.0.1:0", "-b", f"unix:{place}/socket,user=nobody,group=nogroup,mode=600",
            "bare", cwd=place,
        )  # fmt: skip
        identity = "(65534, 65534, 65534) (65534, 65534, 65534) [65534] 077"
        assert server.get() == (200, identity.encode())
        found = (place / "socket").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (65534, 65534, 0o600)
        assert Path(f"/proc/{server.pid}").stat().st_uid == 0
        assert access.stat().st_uid == 65534
        # After a rotation the worker can open the new file, which root has made.
        access.rename(place / "old")
        server.signal("USR1")
        server.wait_for("open anew")
        while not access.read_text():
            assert server.get()[0] == 200
        assert access.stat().st_uid == 65534
        assert server.stop() == 0


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_a_master_without_descriptors_does_what_it_can(
    start: Start, tmp_path: Path, preload: tuple[str, ...]
) -> None:
    log = ("--access-logfile", str(tmp_path / "access.log"))
    errors = ("could not be forked", "cannot be started", "Too many open files", "died", "SIGKILL")
    server = start("-w", "2", "--status", "127.0.0.1:0", *log, *preload, "plain", errors=errors)
    server.wait_for("the status page is on")
    server.wait_for("is ready", count=2)
    one, *_ = [int(found[1]) for found in server.wait_for(r"worker 0 gen 1 \(pid (\d+)\) is ready")]
    subprocess.run(["prlimit", "--pid", str(server.pid), "--nofile=3:4096"], check=True)
    server.signal("USR2")
    server.wait_for("USR2: upgrade refused.*could not be forked: Too many open files")
    server.signal("HUP")
    server.wait_for("HUP: reload refused.*Too many open files")
    server.signal("USR1")
    server.wait_for("USR1")
    os.kill(one, signal.SIGKILL)
    server.wait_for("worker 0 .*could not be forked: Too many open files")
    assert server.get() == (200, b"hello")
    subprocess.run(["prlimit", "--pid", str(server.pid), "--nofile=4096:4096"], check=True)
    server.reload(2)
    assert server.get() == (200, b"hello")


def test_running_out_of_descriptors_kills_nobody(start: Start) -> None:
    server = start("plain", errors=("no connection can be accepted",))
    worker = server.workers()[0]
    subprocess.run(["prlimit", "--pid", str(worker), "--nofile=40:40"], check=True)
    clients = []
    for _ in range(100):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET / HTTP/1.1\r\nHos")  # else it would make room for the next
        clients.append(client)
    server.wait_for("no connection can be accepted: Too many open files")
    before = cpu_seconds(worker)
    select_nothing(1.0)
    assert cpu_seconds(worker) - before < 0.2
    assert server.log.count("no connection can be accepted") == 1
    for client in clients:
        client.close()
    assert server.get() == (200, b"hello")
    assert server.workers() == [worker]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_oldest_idle_connection_makes_room(start: Start) -> None:
    server = start("--worker-connections", "50", "plain")
    clients = [server.connect() for _ in range(50)]
    for client in clients:
        assert client.get()[0] == 200
    assert server.get() == (200, b"hello")
    assert clients[0].rest() == b""
    assert clients[-1].get() == (200, b"hello")
    for client in clients:
        client.socket.close()


def test_silent_connections_make_room(start: Start) -> None:
    """A client that connects and says nothing is no reason to turn away one that speaks."""
    server = start("--worker-connections", "50", "plain")
    clients = [server.connect() for _ in range(120)]
    assert [server.get() for _ in range(10)] == [(200, b"hello")] * 10
    assert clients[0].rest() == b""
    for client in clients:
        client.socket.close()


def test_bodies_whose_directory_is_removed(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "bodies"
    place.mkdir()
    server = start(
        "--tmp-dir", str(place), "plain", errors=("a body cannot be collected", "reload refused")
    )
    place.rmdir()
    with server.connect() as client:
        client.send(b"POST /sum HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
        client.send(b"x" * 100000)
        assert client.response().status == 507
    server.wait_for(
        rf"a body cannot be collected in {place} \(`tmp_dir` from --tmp-dir\): No such file or directory"
    )
    assert server.get() == (200, b"hello")
    server.signal("HUP")
    server.wait_for("reload refused.*`tmp_dir`")
    place.mkdir()
    server.reload(2)


def test_a_relative_directory_for_bodies_is_where_it_was_at_the_start(
    start: Start, app: Path
) -> None:
    """The application may go elsewhere when it is imported."""
    (app / "bodies").mkdir()
    (app / "shop.py").write_text("import os\nos.chdir('/')\n" + PLAIN)
    server = start("--tmp-dir", "bodies", "shop", cwd=app)
    with server.connect() as client:
        client.send(b"POST /sum HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
        client.send(b"x" * 100000)
        assert client.response().status == 200


def test_an_idle_server_uses_no_processor(start: Start) -> None:
    server = start("-w", "2", "plain")
    server.wait_for("is ready", count=2)
    clients = [server.connect() for _ in range(20)]
    assert all(client.get()[0] == 200 for client in clients)
    pids = (server.pid, *server.workers())
    switches = [context_switches(pid) for pid in pids]
    select_nothing(1.0)
    assert (
        max(
            after - before
            for before, after in zip(switches, map(context_switches, pids), strict=True)
        )
        <= 2
    )
    for client in clients:
        client.socket.close()


def context_switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[0])
