"""Where the logs go, and how they look: JSON, a syslog, the logging module, a terminal."""

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import (
    APPS,
    COMMAND,
    WAIT,
    Server,
    Tail,
    clean_environ,
    run,
)
from tests.command.load import Load

Start = Callable[..., Server]


def test_both_logs_as_json(start: Start, tmp_path: Path) -> None:
    with Tail(tmp_path / "access") as access:
        server = start(
            "-w", "1", "--access-logfile", str(tmp_path / "access"), "--access-log-format", "json",
            "--log-format", "json", "--request-id-header", "plain",
            up=False,
        )  # fmt: skip
        found = server.wait_for(r"serves plain on http://127\.0\.0\.1:(\d+)")
        server.port = int(found[0][1])
        with server.connect() as client:
            client.send(b"GET /fail HTTP/1.1\r\nHost: h\r\nX-Request-Id: abc-1\r\n\r\n")
            assert client.response().getheader("X-Request-Id") == "abc-1"
        assert server.get("/print")[0] == 200
        with server.connect() as client:
            client.send(b"GET /kill?9 HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.rest() == b""
        access.wait_for("GET", count=3)
        lines = [json.loads(line) for line in access.lines]
    assert server.stop() == 0
    failed, printed, killed = lines
    assert (failed["request_id"], failed["status"], failed["target"]) == ("abc-1", 500, "/fail")
    assert (failed["worker"], failed["generation"], failed["client"]) == (0, 1, "127.0.0.1")
    assert failed["seconds"] >= failed["app_seconds"] > 0 <= failed["queue_seconds"]
    assert re.fullmatch("[0-9a-f]{16}-[0-9a-f]+", printed["request_id"])
    assert (killed["status"], killed["worker"], killed["generation"]) == (0, 0, 1)
    assert killed["aborted"] == "its worker was killed, or died"
    errors = [json.loads(line) for line in server.lines]
    (raised,) = [line for line in errors if line["request_id"] == "abc-1"]
    assert (raised["level"], raised["process"]) == ("error", "worker 0 gen 1")
    assert "failed on purpose" in raised["message"]
    assert {"to wsgi.errors: \u20ac", "and more"} <= {line["message"] for line in errors}


def test_every_process_writes_json(start: Start) -> None:
    server = start(
        "--log-format", "json", "--reload", "--status", "127.0.0.1:0", "plain", up=False
    )  # fmt: skip
    server.wait_for("watching ")
    port = int(server.wait_for(r"the status page is on http://127\.0\.0\.1:(\d+)")[0][1])
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        server.wait_for("This is said once")
    assert server.stop() == 0
    assert {json.loads(line)["process"] for line in server.lines} >= {"master", "status", "watcher"}


@pytest.mark.parametrize("format_", ["json", "combined"])
def test_a_rotation_under_load_loses_and_tears_no_line(
    start: Start, tmp_path: Path, format_: str
) -> None:
    path = tmp_path / "access"
    server = start(
        "-w", "2", "--access-logfile", str(path), "--access-log-format", format_, "plain"
    )  # fmt: skip
    with Load(server.port, "/hello?" + "x" * 3000) as load:
        for number in range(20):
            load.wait_for(20)
            path.rename(tmp_path / f"old{number}")
            server.signal("USR1")
            server.wait_for("USR1: the log files are open anew", count=number + 1)
        outcomes = load.stop()
    assert server.stop() == 0
    files = [path, *(tmp_path / f"old{number}" for number in range(20))]
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
    assert set(outcomes) == {200}
    assert len(lines) == outcomes[200]
    whole = re.compile(
        r'\{"time".*"target":"/hello\?x{3000}".*"aborted":null\}\n'
        if format_ == "json"
        else r'127\.0\.0\.1 - - \[[^]]+\] "GET /hello\?x{3000} HTTP/1\.1" 200 5 "-" "-"\n'
    ).fullmatch
    assert all(map(whole, lines))


def test_a_pipe_that_nobody_reads_is_told_at_the_end_too(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    server = start("plain", "--access-logfile", str(path))
    with server.connect() as client:
        while "cannot be written: whoever reads it is too slow" not in server.log:
            assert client.get("/hello?" + "a" * 3000)[0] == 200
    assert server.stop() == 0
    server.wait_for(r"WARNING .* lines? (was|were) lost, and it stays so: the access log \S+pipe")
    os.close(reader)


def test_a_syslog(start: Start, tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "log"))
        unix.settimeout(WAIT)
        udp.settimeout(WAIT)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            server = start(
                "-b", f"fd://{listener.fileno()}",
                "--error-logfile", f"syslog+unix://{tmp_path}/log?facility=local0",
                "--access-logfile", f"syslog+udp://127.0.0.1:{udp.getsockname()[1]}",
                "--access-log-format", "%(r)s %(s)s", "plain",
                up=False, pass_fds=[listener.fileno()],
            )  # fmt: skip
            header = rb"<(\d+)>1 \S+Z \S+ forkserve \d+ "
            while b"serves plain" not in (first := unix.recv(9000)):
                pass
            assert re.fullmatch(header + rb"error - \[master\] forkserve .* serves plain .*", first)
            server.port = port
            assert server.get("/print") == (200, b"printed")
            line = udp.recv(9000)
            match = re.fullmatch(header + rb"access - GET /print HTTP/1.1 200", line)
            assert match is not None and int(match[1]) == 8 + 6
            while b"and more" not in (line := unix.recv(9000)):
                pass
            match = re.fullmatch(header + rb"error - \[worker 0 gen 1\] and more", line)
            assert match is not None and int(match[1]) == 16 * 8 + 5
            unix.close()
            os.unlink(tmp_path / "log")
            assert [server.get("/print")[0] for _ in range(20)] == [200] * 20
    assert server.stop() == 0


CONFIG = """
version = 1
disable_existing_loggers = false
[formatters.lines]
format = "%(levelname)s %(request_id)s %(message)s"
[handlers.file]
class = "{handler}"
filename = "{path}"
formatter = "lines"
[loggers."forkserve.error"]
handlers = ["file"]
[loggers."forkserve.access"]
handlers = ["file"]
"""


def config(directory: Path, handler: str = "logging.FileHandler") -> str:
    path = directory / "log.toml"
    path.write_text(CONFIG.format(handler=handler, path=directory / "out"))
    return str(path)


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_lines_through_the_logging_module(
    start: Start, tmp_path: Path, preload: tuple[str, ...]
) -> None:
    server = start(
        "--log-config", config(tmp_path), *preload, "--access-log-format", "%(r)s", "plain"
    )  # fmt: skip
    with Tail(tmp_path / "out") as out:
        with server.connect() as client:
            assert client.get("/fail", "X-Request-Id: abc-1\r\n")[0] == 500
        assert server.get("/print")[0] == 200
        out.wait_for("GET /print")
    assert server.stop() == 0
    lines = (tmp_path / "out").read_text().splitlines()
    assert "INFO abc-1 GET /fail HTTP/1.1" in lines
    assert any(re.match(r"ERROR abc-1 in 'GET /fail HTTP/1.1' the application", it) for it in lines)
    assert "NOTICE  and more" in lines
    assert "serves plain" in server.log  # the master's
    assert "failed on purpose" not in server.log


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_a_logger_of_the_file_may_leave_its_lines_to_the_root(
    start: Start, tmp_path: Path, preload: tuple[str, ...]
) -> None:
    config, lines = tmp_path / "log.toml", tmp_path / "lines"
    config.write_text(
        f"version = 1\n[handlers.file]\nclass = 'logging.FileHandler'\nfilename = '{lines}'\n"
        "[loggers.'gunicorn.error']\nlevel = 'INFO'\n[root]\nhandlers = ['file']\n"
    )
    server = start(*preload, "--log-config", str(config), "plain")
    assert server.get("/fail")[0] == 500
    assert server.stop() == 0
    assert "the application raised RuntimeError" in lines.read_text()


def test_the_last_lines_of_a_worker_are_written(start: Start, tmp_path: Path) -> None:
    server = start("--log-config", config(tmp_path), "--access-log-format", "%(r)s", "plain")
    for _ in range(100):
        assert server.get()[0] == 200
    assert server.stop() == 0
    assert (tmp_path / "out").read_text().count("GET / HTTP/1.1\n") == 100


HANGING = """
import logging, threading
from plain import application

class Hanging(logging.Handler):
    def __init__(self, filename):
        super().__init__()

    def emit(self, record):
        threading.Event().wait()
"""


def test_a_handler_that_hangs_holds_up_nobody(start: Start, app: Path) -> None:
    (app / "plain.py").write_text((app / "shop.py").read_text())
    (app / "hanging.py").write_text(HANGING)
    server = start("--log-config", config(app, "hanging.Hanging"), "hanging", cwd=app)
    with server.connect() as client:
        assert {client.get()[0] for _ in range(10_100)} == {200}
    server.wait_for(r"WARNING \[worker 0 .*lines of the logs are lost .*too slow")
    assert server.stop() == 0


def test_a_log_config_that_is_broken_refuses_the_start(tmp_path: Path) -> None:
    for handler, part in (("no.such.Thing", "cannot be used"), ("", "cannot be used")):
        path = config(tmp_path, handler)
        for arguments in (("--check-config",), ()):
            result = run(*arguments, "-b", "127.0.0.1:0", "--log-config", path, "plain")
            assert result.returncode == 1
            assert f"the file {path} (`log_config` from --log-config) {part}" in result.stderr
    Path(path).write_text("version = ")
    result = run("-b", "127.0.0.1:0", "--log-config", path, "plain")
    assert result.returncode == 1
    assert (
        f"the file {path} (`log_config` from --log-config) is neither TOML nor JSON"
        in result.stderr
    )


def test_a_log_config_that_is_broken_refuses_a_reload(start: Start, tmp_path: Path) -> None:
    server = start("-w", "1", "--log-config", config(tmp_path), "plain", errors=("reload", "died"))
    (pid,) = server.workers()
    for count, text in enumerate(("version = ", None), 1):
        if text is None:
            config(tmp_path, "no.such.Thing")
        else:
            (tmp_path / "log.toml").write_text(text)
        server.signal("HUP")
        server.wait_for("reload refused.* .`log_config` from", count=count)
        assert server.get("/pid") == (200, b"%d" % pid)
    os.kill(pid, 9)  # and who comes now gets what was read before
    server.wait_for("worker 0 gen 1 .*is ready", count=2)
    assert server.get()[0] == 200
    config(tmp_path)
    server.signal("HUP")
    server.wait_for("reloaded, generation")
    assert server.stop() == 0


def test_colours_in_a_terminal() -> None:
    environ = clean_environ()
    environ.pop("NO_COLOR", None)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [COMMAND, "-b", "127.0.0.1:0", "plain"],
        stderr=theirs, stdin=subprocess.DEVNULL, cwd=APPS, env=environ, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = b""
        while b"serves plain" not in shown:
            shown += os.read(ours, 4096)
        assert re.search(
            rb"\d\d:\d\d:\d\d INFO \x1b\[2m\[master pid \d+\]\x1b\[0m forkserve", shown
        )
    finally:
        process.terminate()
        while True:
            try:
                if not os.read(ours, 4096):
                    break
            except OSError:  # nobody has the other side any more
                break
        os.close(ours)
        assert process.wait(WAIT) == 0


def test_both_spellings_of_the_option(start: Start) -> None:
    for option in ("--access-log-format", "--access-logformat"):
        result = run("--print-config", option, "json", "plain")
        assert 'access_log_format = "json"  # --access-log-format' in result.stdout
    result = run("--access-log-format", "%(Q)s", "plain")
    assert result.returncode == 2
    assert "--access-log-format: access_log_format: " in result.stderr
