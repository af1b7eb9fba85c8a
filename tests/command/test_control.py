"""forkservectl and a real server: every command, and callers that do their worst."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command.harness import WAIT, Server, clean_environ, wait_for_death

CTL = str(Path(sys.executable).parent / "forkservectl")
Start = Callable[..., Server]


def ctl(*arguments: str, env: dict[str, str] | None = None, stdout: Any = subprocess.PIPE) -> Any:
    """The command, run to its end. ``.returncode``, ``.stdout``, ``.stderr``."""
    return subprocess.run(
        [CTL, *arguments], env={**clean_environ(), **(env or {})},
        stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=WAIT, check=False,
    )  # fmt: skip


class Controlled:
    """A server with a pid file, and forkservectl for it."""

    def __init__(self, start: Start, directory: Path, *arguments: str, **options: Any) -> None:
        self.pid_file = directory / "x.pid"
        self.path = directory / "x.ctl"
        self.server = start("--pid", str(self.pid_file), *arguments, **options)

    def run(self, *arguments: str) -> Any:
        return ctl("--pid-file", str(self.pid_file), *arguments)

    def ok(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert (result.returncode, result.stderr) == (0, ""), result
        return str(result.stdout)

    def refused(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.returncode == 1, result
        return str(result.stderr)

    def say(self, command: bytes) -> dict[str, Any]:
        """What the master answers. (Who is turned away may be so before the command is sent.)"""
        octets = b""
        with self.connect() as sock, contextlib.suppress(ConnectionError):
            with contextlib.suppress(ConnectionError):
                sock.sendall(command + b"\n")
            while more := sock.recv(65536):
                octets += more
        answer: dict[str, Any] = json.loads(octets)
        return answer

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(WAIT)
        sock.connect(str(self.path))
        return sock


@pytest.fixture
def controlled(start: Start, tmp_path: Path) -> Iterator[Callable[..., Controlled]]:
    """Afterwards the masters that have followed are ended too, if the test has not."""
    begun: list[Controlled] = []

    def begin(*arguments: str, **options: Any) -> Controlled:
        begun.append(Controlled(start, tmp_path, *arguments, **options))
        return begun[-1]

    yield begin
    for it in begun:
        it.server.end_heirs()


@contextlib.contextmanager
def crowd(work: Callable[[threading.Event], None], count: int) -> Iterator[None]:
    """``count`` threads that do ``work``, until the block ends or they are done."""
    done = threading.Event()
    threads = [threading.Thread(target=work, args=(done,), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


# ---- the socket


def test_the_socket_is_for_its_owner_and_goes_with_the_server(
    controlled: Callable[..., Controlled],
) -> None:
    it = controlled("plain")
    assert it.path.stat().st_mode & 0o777 == 0o600
    it.server.stop()
    assert not it.path.exists() and not it.pid_file.exists()
    result = it.run("reload")
    assert result.returncode == 3 and "no control socket" in result.stderr


def test_a_socket_of_a_dead_server_is_replaced(
    controlled: Callable[..., Controlled],
) -> None:
    first = controlled("plain")
    first.server.process.kill()
    first.server.wait()
    assert "nobody listens" in first.run("reload").stderr
    second = controlled("plain")
    second.ok("reload")


def test_a_socket_of_a_live_server_is_left_alone(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "c.ctl")
    first = start("--control-socket", path, "plain")
    second = start("--control-socket", path, "plain", up=False)
    assert second.wait() == 1
    assert "another program is listening there" in second.log
    assert "the control socket, `control_socket` from --control-socket" in second.log
    assert ctl("-s", path, "reload").returncode == 0
    first.wait_for("reloaded, generation 2")


def test_the_socket_of_clients_is_not_it(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "clients.sock"
    start("-b", f"unix:{path}", "plain")
    result = ctl("-s", str(path), "status")
    assert result.returncode == 3
    assert "is no control socket of forkserve" in result.stderr


def test_an_answer_that_nobody_takes(controlled: Callable[..., Controlled]) -> None:
    it = controlled("plain")
    with open("/dev/full", "w") as full:
        result = ctl("--pid-file", str(it.pid_file), "config", stdout=full)
    assert result.returncode == 1
    assert result.stderr == (
        "forkservectl: the answer cannot be written: No space left on device\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    result = ctl("--pid-file", str(it.pid_file), "config", stdout=writing)  # ... | head -0
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, "")


def test_in_a_shared_directory_the_second_server_has_none(start: Start, tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    start("plain", env=env)
    second = start("plain", env=env)
    second.wait_for("WARNING .*there is no control socket")
    assert ctl("reload", env=env).returncode == 0


def test_no_socket_is_an_option(start: Start, tmp_path: Path) -> None:
    pid = tmp_path / "x.pid"
    start("--pid", str(pid), "--control-socket", "none", "plain")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pid"]


# ---- the commands


def test_reload(controlled: Callable[..., Controlled], app: Path) -> None:
    it = controlled("shop", cwd=app, errors=("reload refused",))
    assert it.ok("reload") == "reloaded, generation 2 serves\n"
    assert it.server.get("/generation") == (200, b"2")
    (app / "shop.py").write_text("raise RuntimeError('broken on purpose')")
    error = it.refused("reload")
    assert "generation 2 goes on serving unchanged" in error
    assert "RuntimeError: broken on purpose" in error
    assert it.server.get("/generation") == (200, b"2")


def test_reload_with_broken_settings(controlled: Callable[..., Controlled], tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text("workers = 1\n")
    it = controlled("-c", str(file), "plain", errors=("reload refused",))
    file.write_text("worker = 1\n")
    assert "did you mean workers" in it.refused("reload")


def test_a_reload_that_stops_half_way(controlled: Callable[..., Controlled], app: Path) -> None:
    it = controlled("-w", "2", "shop", cwd=app, errors=("could not boot",))
    once = f"import os\nos.mkdir({str(app / 'booted')!r})\n"
    (app / "shop.py").write_text(once + (app / "shop.py").read_text())
    error = it.refused("reload")
    assert "generation 2 is in force, but one of its workers could not boot" in error
    assert "FileExistsError" in error


def test_a_reload_that_waits_ends_with_the_server(
    controlled: Callable[..., Controlled], app: Path, gate: Path
) -> None:
    it = controlled("shop", cwd=app)
    (app / "shop.py").write_text(f"print('booting', flush=True)\nopen({str(gate)!r}).close()\n")
    with subprocess.Popen(
        [CTL, "-p", str(it.pid_file), "reload"], stderr=subprocess.PIPE, text=True
    ) as waiting:
        it.server.wait_for("loading generation 2")
        it.ok("stop", "--now")
        assert waiting.stderr is not None and "stopping" in waiting.stderr.read()
        assert waiting.wait(WAIT) == 1


def test_whom_an_operator_interrupts_tells_that_the_server_goes_on(
    controlled: Callable[..., Controlled], app: Path, gate: Path
) -> None:
    it = controlled("shop", cwd=app)
    text = (app / "shop.py").read_text()
    (app / "shop.py").write_text(f"open({str(gate)!r}).close()\n{text}")
    with subprocess.Popen(
        [CTL, "-p", str(it.pid_file), "reload"], stderr=subprocess.PIPE, text=True
    ) as waiting:
        it.server.wait_for("loading generation 2")
        waiting.send_signal(signal.SIGINT)
        said = waiting.communicate(timeout=WAIT)[1]
    assert (waiting.returncode, said) == (
        130, "\nforkservectl: interrupted; what the server has been told it does all the same\n"
    )  # fmt: skip
    gate.write_text("")
    it.server.wait_for("reloaded, generation 2")


def test_scale(controlled: Callable[..., Controlled]) -> None:
    it = controlled("-w", "2", "plain")
    assert it.ok("scale", "4") == "from 2 to 4 workers\n"
    it.server.wait_for(r"worker 3 .*is ready")
    assert it.ok("scale", "+1") == "from 4 to 5 workers\n"
    it.server.wait_for(r"worker 4 .*is ready")
    assert it.ok("scale", "-3") == "from 5 to 2 workers\n"
    it.server.wait_for(r"worker \d .*has left", count=3)
    assert len(it.server.workers()) == 2
    assert "from 1 to" in it.refused("scale", "-2")
    assert "from 1 to" in it.refused("scale", "0")
    for nonsense in ("x", "1.5", "--1", "+"):
        assert it.run("scale", nonsense).returncode == 2


def test_retire(controlled: Callable[..., Controlled], app: Path) -> None:
    it = controlled("shop", cwd=app, errors=("could not boot",))
    before = it.server.get("/pid")[1]
    with it.server.connect() as client:
        client.get("/hello")
        text = it.ok("retire", "0")
        status, after = client.get("/pid")  # on the same connection
    assert status == 200 and after != before
    assert f"(pid {before.decode()}) leaves, and pid {after.decode()} serves" in text
    assert "no worker serves in slot 7" in it.refused("retire", "7")
    (app / "shop.py").write_text("raise RuntimeError('broken on purpose')")
    assert "could not boot" in it.refused("retire", "0")
    assert it.server.get("/pid") == (200, after)


def test_retire_of_a_worker_that_dies_first(
    controlled: Callable[..., Controlled], app: Path, gate: Path
) -> None:
    it = controlled("shop", cwd=app, errors=("SIGKILL",))
    old = int(it.server.get("/pid")[1])
    boot = f"import os\nos.write(2, b'booting\\n')\nopen({str(gate)!r}).close()\n"
    (app / "shop.py").write_text(boot + (app / "shop.py").read_text())
    with subprocess.Popen(
        [CTL, "--pid-file", it.pid_file, "retire", "0"], stderr=subprocess.PIPE, text=True
    ) as command:
        it.server.wait_for("^booting")
        os.kill(old, signal.SIGKILL)
        said = command.communicate(timeout=WAIT)[1]
    gate.write_text("")
    assert command.returncode == 1
    assert f"worker 0 (pid {old}) has ended, and nobody serves in its place yet" in said


def test_reopen_logs(controlled: Callable[..., Controlled], tmp_path: Path) -> None:
    log = tmp_path / "logs" / "access"
    log.parent.mkdir()
    it = controlled("--access-logfile", str(log), "plain", errors=("cannot open",))
    log.rename(tmp_path / "rotated")
    it.ok("reopen-logs")
    assert log.exists()
    log.unlink()
    log.parent.rmdir()
    assert f"cannot open {log}" in it.refused("reopen-logs")


def test_config(controlled: Callable[..., Controlled], tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text("keep_alive = 5\n")
    it = controlled("-c", str(file), "--threads", "2", "plain", env={"FORKSERVE_BACKLOG": "100"})
    text = it.ok("config")
    assert re.search(r"^threads +2 +--threads$", text, re.MULTILINE)
    settings = json.loads(it.ok("config", "--json"))["settings"]
    assert settings["keep_alive"] == {"value": "5", "origin": str(file)}
    assert settings["backlog"] == {"value": "100", "origin": "FORKSERVE_BACKLOG"}
    assert settings["bind"] == {"value": ["127.0.0.1:0"], "origin": "--bind"}
    assert settings["timeout"] == {"value": "30", "origin": "default"}
    file.write_text("keep_alive = 7\n")
    it.ok("reload")
    config = json.loads(it.ok("config", "--json"))
    assert (config["generation"], config["settings"]["keep_alive"]["value"]) == (2, "7")


def test_upgrade(controlled: Callable[..., Controlled]) -> None:
    it = controlled("plain")
    text = it.ok("upgrade")
    successor = int(it.pid_file.read_text())
    assert f"process {successor} serves, and this one ({it.server.pid}) ends" in text
    assert it.server.process.wait(WAIT) == 0
    # The new one has the socket, and it is the same: who asks waits for it.
    it.ok("reload")
    assert it.path.stat().st_mode & 0o777 == 0o600
    assert it.ok("stop") == "stopped\n"
    assert wait_for_death(successor)
    assert not it.path.exists()


def test_no_command_is_lost_in_an_upgrade(controlled: Callable[..., Controlled]) -> None:
    it = controlled("plain")
    wrong: list[str] = []
    pids: set[str] = set()

    def ask(done: threading.Event) -> None:
        while not done.is_set():
            answer = it.say(b'{"command": "config"}')
            if not answer["ok"] and not answer.get("again"):
                wrong.append(answer["error"])

    with crowd(ask, 4):
        for _ in range(3):
            before = it.pid_file.read_text()
            text = it.ok("upgrade")
            pids.add(it.pid_file.read_text())
            assert before.strip() in text
            wait_for_death(int(before))
    assert (wrong, len(pids)) == ([], 3)
    it.ok("stop")


def test_an_upgrade_that_fails(controlled: Callable[..., Controlled], app: Path) -> None:
    it = controlled("shop", cwd=app, errors=("upgrade refused", "could not boot", "no worker"))
    (app / "shop.py").write_text("raise RuntimeError('broken on purpose')")
    error = it.refused("upgrade")
    assert "goes on unchanged" in error and "broken on purpose" in error
    assert it.path.exists()
    assert it.server.get()[0] == 200
    assert it.ok("scale", "2")


def test_stop(controlled: Callable[..., Controlled], gate: Path) -> None:
    it = controlled("plain")
    with it.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        it.server.wait_for("waiting")
        assert "stopping: requests may finish for 30 s" in it.ok("stop", "--no-wait")
        it.server.wait_for("TERM: stopping")
        assert "the server is stopping" in it.refused("reload")
        gate.write_text("")
        assert client.response().status == 200
    assert it.server.wait() == 0


def test_stop_after_a_while(controlled: Callable[..., Controlled]) -> None:
    it = controlled("--drain-delay", "60", "plain")
    assert "it goes on for up to 60 s (drain_delay)" in it.ok("stop", "--no-wait")
    assert it.server.get()[0] == 200
    assert "it is draining" in it.ok("status")
    assert it.ok("stop") == "stopped\n"  # as a second TERM: without the rest of the while
    assert it.server.wait() == 0


@pytest.mark.parametrize("command", ["reload", "upgrade"])
def test_what_is_about_to_stop_begins_nothing(
    controlled: Callable[..., Controlled], command: str
) -> None:
    it = controlled("--drain-delay", "30", "plain")
    it.server.signal("TERM")
    it.server.wait_for("TERM: draining")
    assert "the server is stopping" in it.refused(command)


def test_after_a_stop_there_is_room_for_the_next(
    controlled: Callable[..., Controlled],
) -> None:
    it = controlled("plain")
    for _ in range(3):
        it.ok("stop")
        assert not it.pid_file.exists() and not it.path.exists()
        it = controlled("plain")


def test_stop_now(controlled: Callable[..., Controlled], gate: Path) -> None:
    it = controlled("plain")
    with it.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        it.server.wait_for("waiting")
        assert it.ok("stop", "--now") == "stopped\n"
    assert it.server.wait() == 0


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": True, "generation": "\x1b[2J", "settings": {}, "text": "\x1b[2J"},
        {"ok": False, "error": "no\n\x1b[2J"},
    ],
)
def test_who_stands_in_for_the_master_moves_no_terminal(
    tmp_path: Path, answer: dict[str, Any]
) -> None:
    """The user of the service, who need not be root, may put any socket in its place."""
    path = tmp_path / "x.ctl"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = sock.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        results = [ctl("-s", str(path), command) for command in ("config", "reload")]
        sock.shutdown(socket.SHUT_RDWR)
        thread.join(WAIT)
    for result in results:
        assert "\\x1b[2J" in result.stdout + result.stderr
        assert "\x1b" not in result.stdout + result.stderr


# ---- stack


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_stack_of_a_call(controlled: Callable[..., Controlled], gate: Path, preload: bool) -> None:
    it = controlled(*(["--preload"] if preload else []), "plain")
    with it.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        it.server.wait_for("waiting")
        for _ in range(20):
            text = it.ok("stack", "0")
            assert "in do_wait" in text and "(MainThread):" in text and "(standby):" in text
            assert "cli.py" not in text  # the frames of the master that it was forked from
        gate.write_text("")
        assert client.response().status == 200  # it has not been disturbed
    assert "in do_wait" not in it.ok("stack", "0")
    assert "no worker in slot 4" in it.refused("stack", "4")


def test_of_a_boot_that_hangs(start: Start, tmp_path: Path, app: Path, gate: Path) -> None:
    text = (app / "shop.py").read_text()
    (app / "shop.py").write_text(
        f"import sys; print('booting', file=sys.stderr)\nopen({str(gate)!r}).close()\n{text}"
    )
    path = str(tmp_path / "c.ctl")
    server = start("--control-socket", path, "shop", cwd=app, up=False)
    server.wait_for("booting")
    assert "it is starting" in ctl("-s", path, "status").stdout
    assert f'File "{app}/shop.py", line 2 in <module>' in ctl("-s", path, "stack", "0").stdout
    gate.write_text("")
    server.up()
    assert "1 of 1 workers serve" in ctl("-s", path, "status").stdout


def test_stack_of_a_worker_whose_interpreter_is_held(
    controlled: Callable[..., Controlled],
) -> None:
    it = controlled("--timeout", "none", "stuck_in_c")
    with it.server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        while "stuck_in_c.py" not in it.ok("stack", "0"):
            pass  # it has not begun yet
        it.server.stop("QUIT")


SLEEPER = """
import socket, sys, threading, time

def application(environ, start_response):
    ours, theirs = socket.socketpair()
    timer = threading.Timer(1.0, theirs.send, (b"x",))
    timer.start()
    print("waiting", file=sys.stderr, flush=True)
    start = time.monotonic()
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(1.0)
    else:
        assert ours.recv(1) == b"x"
    seconds = time.monotonic() - start
    timer.join()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(seconds).encode()]
"""


@pytest.mark.parametrize("path", ["/sleep", "/receive"])
def test_a_call_that_waits_is_not_cut_short_by_a_look_at_its_stack(
    controlled: Callable[..., Controlled], app: Path, path: str
) -> None:
    (app / "shop.py").write_text(SLEEPER)
    it = controlled("shop", cwd=app)
    with it.server.connect() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        it.server.wait_for("waiting")
        for _ in range(3):
            it.ok("stack", "0")
        response = client.response()
        assert response.status == 200
        assert 0.9 <= float(response.content) < 5.0  # type: ignore[attr-defined]


BUSY = """
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def application(environ, start_response):
    fib(14)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_stacks_of_threads_that_run_kill_nobody(
    controlled: Callable[..., Controlled], app: Path
) -> None:
    """A frame that is read while its thread changes it is the end of the process."""
    (app / "shop.py").write_text(BUSY)
    it = controlled("--threads", "4", "shop", cwd=app)

    def load(done: threading.Event) -> None:
        with it.server.connect() as client:
            while not done.is_set():
                assert client.get() == (200, b"ok")

    pids = set()
    with crowd(load, 4):
        for _ in range(300):
            pids.add(it.say(b'{"command": "stack", "slot": 0}')["pid"])
    assert len(pids) == 1


def test_stack_of_a_stopped_worker_is_refused_in_time(
    controlled: Callable[..., Controlled],
) -> None:
    it = controlled("plain")
    pid = int(it.server.get("/pid")[1])
    os.kill(pid, signal.SIGSTOP)
    try:
        assert "does not write its stack" in it.refused("stack", "0")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert it.server.get()[0] == 200
    assert "MainThread" in it.ok("stack", "0")


def test_a_stopped_master_answers_nobody(controlled: Callable[..., Controlled]) -> None:
    it = controlled("plain")
    it.server.signal("STOP")
    try:
        result = it.run("reload")
    finally:
        it.server.signal("CONT")
    assert result.returncode == 3
    assert "the master does not answer, and nothing was done. Is it stopped" in result.stderr
    assert it.ok("reload") == "reloaded, generation 2 serves\n"  # and not 3


# ---- callers that do their worst


def test_ten_thousand_callers_hold_up_nobody(controlled: Callable[..., Controlled]) -> None:
    it = controlled("plain")
    sleepers = []
    for _ in range(16):  # all the room there is, with half a command each
        sock = it.connect()
        sock.send(b'{"command": ')
        sleepers.append(sock)
    refused = 0
    for number in range(10_000):
        with it.connect() as sock:
            refused += b"under way already" in sock.recv(4096)
        if number % 1000 == 0:
            assert it.server.get() == (200, b"hello")
        if number == 1000:
            it.server.signal("HUP")
        if number == 9000:  # they have never paused
            assert "reloaded, generation 2 serves" in it.server.log
    assert refused == 10_000
    for sock in sleepers:
        sock.close()
    it.ok("scale", "2")


def test_readers_that_sleep_hold_up_nobody(controlled: Callable[..., Controlled]) -> None:
    it = controlled("plain")
    sleepers = []
    for _ in range(12):
        sock = it.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.send(b'{"command": "config"}\n')
        sleepers.append(sock)
    assert it.server.get() == (200, b"hello")
    it.server.reload(2)
    it.ok("scale", "2")
    assert it.server.stop() == 0
    for sock in sleepers:
        sock.close()


def test_a_crowd_at_once(controlled: Callable[..., Controlled]) -> None:
    """More than the kernel queues: nobody is left without an answer."""
    it = controlled("-w", "2", "plain")
    answers: list[bool] = []

    def work(_: threading.Event) -> None:
        for _ in range(50):
            answers.append(it.say(b'{"command": "config"}')["ok"])

    with crowd(work, 30):
        pass  # each asks as often as it does
    assert len(answers) == 1500
    assert it.server.get() == (200, b"hello")


def test_where_it_looks(start: Start, tmp_path: Path) -> None:
    start("plain", env={"RUNTIME_DIRECTORY": str(tmp_path)})
    path = str(tmp_path / "forkserve.ctl")
    for env in (
        {"RUNTIME_DIRECTORY": f"{tmp_path}:/elsewhere"},
        {"XDG_RUNTIME_DIR": str(tmp_path)},
        {"FORKSERVE_CONTROL_SOCKET": path},
        {"FORKSERVE_CONTROL_SOCKET": "auto", "RUNTIME_DIRECTORY": str(tmp_path)},
    ):
        assert ctl("config", env=env).returncode == 0, env
    assert ctl("--socket", path, "config").returncode == 0
    assert ctl("config", env={"FORKSERVE_CONTROL_SOCKET": "none"}).returncode == 3


def test_help_and_usage_need_no_server() -> None:
    for name in ("status", "top", "ps", "stack", "reload", "upgrade", "scale", "retire",
                 "reopen-logs", "config", "stop"):  # fmt: skip
        result = ctl(name, "--help")
        assert result.returncode == 0 and "Usage: forkservectl" in result.stdout
    assert ctl("explode").returncode == 2
    assert ctl("--socket", "/nowhere/x.ctl", "status").returncode == 3
    assert ctl("reload").returncode == 3
