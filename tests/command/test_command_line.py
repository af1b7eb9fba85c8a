"""The command line, as a new operator meets it: every message helps, and nothing is half started."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import forkserve
from tests.command.harness import APPS, COMMAND, WAIT, Lines, Server, Tail, clean_environ, run

Start = Callable[..., Server]


def test_version() -> None:
    for option in ("--version", "-v"):
        assert run(option).stdout == f"forkserve {forkserve.__version__}\n"


def test_help_names_every_option() -> None:
    text = run("--help").stdout
    for option in (
        "-w, --workers",
        "-b, --bind",
        "--graceful-timeout",
        "--max-body",
        "-c, --config",
    ):
        assert option in text


def test_help_shows_the_defaults() -> None:
    text = " ".join(run("--help").stdout.split())
    for part in (
        "and ,group=NAME. [127.0.0.1:8000] --backlog",
        "idle for a second. [1] --threads",
        "to import the application. [2m] --keep-alive",
        "more is a 413. [1G] --limit-request-line",
        "USER User (name or number) that the workers run as. The master stays what it is. [none]",
    ):
        assert part in text, part


def test_python_m_forkserve_is_the_same() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "forkserve", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("forkserve ")


def test_all_problems_are_reported_at_once_and_nothing_is_started(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    config.write_text('workrs = 4\ntimeout = "soon"\nkeepalive = 5\n')
    began = time.monotonic()
    result = run(
        "-c", str(config), "-w", "0", "-b", "nonsense", "--max-body", "-1", "plain",
        env={"FORKSERVE_WORKER": "3", "FORKSERVE_LOG_LEVEL": "loud"},
    )  # fmt: skip
    assert result.returncode == 2
    assert time.monotonic() - began < 5
    for part in (
        f"{config}: there is no setting 'workrs'; did you mean workers?",
        f"{config}: there is no setting 'keepalive'; did you mean keep_alive?",
        f"{config}: timeout: 'soon' is not a time",
        "--workers: workers: '0' is less than 1",
        "--bind: bind: 'nonsense' is no address",
        "--max-body: max_body: '-1' is not a size",
        "FORKSERVE_WORKER: there is no setting 'worker'; did you mean FORKSERVE_WORKERS?",
        "FORKSERVE_LOG_LEVEL: log_level: 'loud' is none of",
    ):
        assert part in result.stderr, part
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 9


def test_options_that_do_not_exist_are_problems_like_the_others() -> None:
    result = run(
        "--wrokers", "3", "-k", "gevent", "-D", "--preload-app", "--nonsense", "-w", "0", "-b", "nowhere", "plain",
    )  # fmt: skip
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    for part in (
        "--wrokers: there is no such option; did you mean --workers?",
        "--worker-class gevent: there are no greenlets here, and none are needed to hold connections open: leave it out, and set --threads to the number of calls that wait for others at the same time",
        "--daemon: daemon has no counterpart here: it runs in the foreground; let systemd or a container keep it",
        "--preload-app: there is no such option; did you mean --preload?",
        "--nonsense: there is no such option",
        "--workers: workers: '0' is less than 1; write a number of workers, or auto, or MIN:MAX",
    ):
        assert f"forkserve: {part}" in lines
    assert len(lines) == 8, result.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "no application is named"),
        (["-w", "", "plain"], "--workers: workers: '' is not a whole number"),
        (["-u", "", "plain"], "--user: user: '' is no user of this machine"),
        (["plain", "bare"], "one application is served, not plain and bare"),
        (["--max-requests", "-1", "plain"], "is less than 1"),
        (
            ["--limit-request-line", "100000", "--limit-request-head", "64K", "plain"],
            "limit_request_head",
        ),
        (["-b", ":1", "-b", ":1", "plain"], "twice"),
        (["--access-logformat", "%(nonsense)s", "plain"], "%(nonsense)s"),
        (["--user", "nobody-of-that-name", "plain"], "is no user"),
        (["-c", "/nonexistent.toml", "plain"], "cannot be read"),
        (["--chdir"], "requires an argument"),
        (["12:34"], "module:callable"),
        (["./mysite/wsgi.py"], "is not like module:callable: did you mean mysite.wsgi?"),
    ],
)
def test_mistakes_are_exit_status_2(arguments: list[str], part: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert part in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_one_clear_line_within_a_second() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        result = run("-b", f"127.0.0.1:{port}", "plain")
        assert time.monotonic() - began < 1.0
    assert result.returncode == 1
    assert result.stderr == (
        f"forkserve: cannot listen on 127.0.0.1:{port} (`bind` from --bind): another program is "
        "listening there. Stop it (`ss -lntxp` shows which one it is), or choose another address\n"
    )


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("missing_module", "there is no module 'missing_module'"),
        ("plain:aplication", "there is no 'aplication'. Did you mean 'application'?"),
        ("plain:not_callable", "must be callable"),
        ("plain:make(", "does not name an application"),
        ("plain:site.nothing", "there is no 'nothing'"),
        ("broken_import", "ModuleNotFoundError: No module named 'not_installed'"),
        ("broken_syntax", "SyntaxError"),
        ("broken_exit", "SystemExit"),
        ("broken_no_app", "neither `application` nor `app`"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_an_application_that_does_not_load(
    tmp_path: Path, target: str, part: str, check: bool
) -> None:
    (tmp_path / "plain.py").write_text((APPS / "plain.py").read_text())
    (tmp_path / "broken_import.py").write_text("import not_installed\n")
    (tmp_path / "broken_syntax.py").write_text("def application(:\n")
    (tmp_path / "broken_exit.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "broken_no_app.py").write_text("x = 1\n")
    options = ["--check-config"] if check else ["-w", "4", "-b", "127.0.0.1:0"]
    result = run(*options, target, cwd=tmp_path)
    assert result.returncode == 3
    assert part in result.stderr
    assert result.stderr.count("Traceback") <= 1
    assert result.stderr.count("could not boot") == (0 if check else 1)
    assert "forkserve/" not in result.stderr, "our own frames"
    if not check:
        assert "nothing to serve: exiting" in result.stderr


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("plain", b"hello"),
        ("plain:application", b"hello"),
        ("plain:site.wsgi", b"hello"),
        ("plain:Site.wsgi", b"hello"),
        ("plain:make()", b"made"),
        ('plain:make("here")', b"here"),
        ("plain:make(name='there')", b"there"),
    ],
)
def test_ways_to_name_an_application(start: Start, target: str, body: bytes) -> None:
    assert start(target).get() == (200, body)


def test_check_config_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("print('loading')\ndef application(e, s): pass\n")
    result = run(
        "--check-config", "-w", "4", "-b", f"unix:{tmp_path}/socket", "-p", "pid", "--error-logfile",
        "error", "--access-logfile", "access", "shop", cwd=tmp_path,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == ("loading\nthe settings are sound, and the application shop loads\n")
    assert [path.name for path in tmp_path.iterdir()] == ["shop.py"]


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "ended its process while it was loaded: exit status 0"),
        (
            "import os; os.kill(os.getpid(), 11)",
            "ended its process while it was loaded: SIGSEGV",
        ),
        ("raise KeyboardInterrupt", "loading it raised KeyboardInterrupt"),
        ("import sys; sys.stdout.close(); 1 / 0", "ZeroDivisionError"),
        (
            "import time; time.sleep(600)",
            "not loaded within `boot_timeout` from --boot-timeout (0.3 s)",
        ),
    ],
)
def test_check_config_outlives_the_application(tmp_path: Path, code: str, part: str) -> None:
    (tmp_path / "shop.py").write_text(f"print('loading', flush=True)\n{code}\n")
    result = run("--check-config", "--boot-timeout", "0.3", "shop", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (3, "loading\n")
    assert part in result.stderr


def test_check_config_looks_at_the_directories(tmp_path: Path) -> None:
    logs = run(
        "--check-config", "--error-logfile", f"{tmp_path}/no/error", "--access-logfile",
        str(tmp_path), "-p", f"{tmp_path}/nor/pid", "plain",
    )  # fmt: skip
    assert logs.returncode == 1
    assert (
        f"{tmp_path}/no/error (`error_logfile` from --error-logfile): there is no directory"
        in logs.stderr
    )
    assert (
        f"{tmp_path} (`access_logfile` from --access-logfile) is a directory, and must be a file"
        in logs.stderr
    )
    assert f"{tmp_path}/nor/pid (`pid` from --pid): there is no directory" in logs.stderr
    device = run("--check-config", "-p", "/dev/null", "plain")
    assert "/dev/null (`pid` from --pid) is not a regular file" in device.stderr
    bodies = run("--check-config", "--tmp-dir", f"{tmp_path}/gone", "plain")
    assert bodies.returncode == 1
    assert f"the directory {tmp_path}/gone (`tmp_dir` from --tmp-dir) is not there" in bodies.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_check_config_loads_as_the_user_that_the_workers_are() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        # An application that imports nothing new: nobody may not be able to read this Python.
        code = "import os\nif os.getuid() != 65534: raise RuntimeError\ndef app(e, s): pass\n"
        (place / "shop.py").write_text(code)
        assert run("--check-config", "-u", "nobody", "shop", cwd=place).returncode == 0
        (place / "shop.py").chmod(0o600)
        result = run("--check-config", "-u", "nobody", "shop", cwd=place)
        assert result.returncode == 3
        assert "PermissionError" in result.stderr


def test_a_failure_that_only_a_log_file_tells_is_announced(tmp_path: Path) -> None:
    log = tmp_path / "error"
    result = run("-b", "127.0.0.1:0", "--error-logfile", str(log), "missing_module")
    assert result.returncode == 3
    assert result.stderr == f"forkserve: it has failed; the log says why: {log}\n"
    assert "there is no module 'missing_module'" in log.read_text()


def test_sockets_for_another_process_are_not_taken(start: Start) -> None:
    server = start("plain", env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert (
        f"LISTEN_FDS=1 is ignored, because LISTEN_PID is 1 and this is process {server.pid}"
        in (server.lines[0])
    )
    assert server.get() == (200, b"hello")


def test_sockets_of_the_service_manager_come_before_bind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        script = 'exec 3<&"$1"; shift; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", script, "-", str(listener.fileno()), COMMAND, "-b", ":1", "plain"],
            pass_fds=[listener.fileno()], cwd=APPS, env=clean_environ(), stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stderr is not None
        with process.stderr:
            log = Lines(process.stderr)
            log.wait_for(f"serves plain on http://127.0.0.1:{listener.getsockname()[1]} ")
            process.terminate()
            assert process.wait(30) == 0
    assert log.lines[0] == (
        "forkserve: the sockets of LISTEN_FDS (1) take the place of bind (--bind)"
    )


def test_print_config_tells_each_origin_and_can_be_read_back(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    config.write_text('workers = 3\nkeep_alive = "2m"\nbind = ["127.0.0.1:1", "[::1]:2"]\n')
    result = run(
        "-c", str(config), "--print-config", "-t", "0", "plain",
        env={"FORKSERVE_MAX_BODY": "5M", "WEB_CONCURRENCY": "7"},
    )  # fmt: skip
    assert result.returncode == 0
    lines = dict(line.split(" = ", 1) for line in result.stdout.splitlines())
    assert lines["workers"] == "7  # WEB_CONCURRENCY"
    assert lines["keep_alive"] == f'"2m"  # {config}'
    assert lines["bind"] == f'["127.0.0.1:1", "[::1]:2"]  # {config}'
    assert lines["max_body"] == '"5M"  # FORKSERVE_MAX_BODY'
    assert lines["timeout"] == '"none"  # --timeout'
    assert lines["app"] == '"plain"  # command line'
    assert lines["backlog"] == "2048  # default"
    again = tmp_path / "again.toml"
    again.write_text(result.stdout)
    second = run("-c", str(again), "--print-config")
    assert tomllib.loads(second.stdout) == tomllib.loads(result.stdout)


def test_the_order_of_the_sources(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    config.write_text('app = "plain"\nworkers = 2\n')

    def workers(*arguments: str, **env: str) -> int:
        text = run("-c", str(config), "--print-config", *arguments, env=env).stdout
        count = tomllib.loads(text)["workers"]
        assert isinstance(count, int)
        return count

    assert workers() == 2
    assert workers(WEB_CONCURRENCY="3") == 3
    assert workers(WEB_CONCURRENCY="3", FORKSERVE_WORKERS="4") == 4
    assert workers("-w", "5", WEB_CONCURRENCY="3", FORKSERVE_WORKERS="4") == 5


def test_a_flag_in_each_source(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    config.write_text('app = "plain"\nserver_header = false\n')

    def line(*arguments: str, **env: str) -> str:
        text = run("-c", str(config), "--print-config", *arguments, env=env).stdout
        return next(line for line in text.splitlines() if line.startswith("server_header"))

    assert line() == f"server_header = false  # {config}"
    assert line(FORKSERVE_SERVER_HEADER="yes") == "server_header = true  # FORKSERVE_SERVER_HEADER"
    assert line("--server-header") == "server_header = true  # --server-header"
    assert line("--no-server-header", FORKSERVE_SERVER_HEADER="1") == (
        "server_header = false  # --no-server-header"
    )


def test_port_changes_the_default_bind_only(tmp_path: Path) -> None:
    def bind(*arguments: str) -> list[str]:
        text = run("--print-config", *arguments, "plain", env={"PORT": "8099"}).stdout
        value = tomllib.loads(text)["bind"]
        assert isinstance(value, list)
        return value

    assert bind() == ["0.0.0.0:8099"]
    assert bind("-b", "127.0.0.1:1") == ["127.0.0.1:1"]


def test_the_settings_of_the_application(start: Start, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "lib" / "elsewhere.py").write_text((APPS / "plain.py").read_text())
    server = start(
        "--chdir", str(tmp_path / "work"), "--pythonpath", f"{tmp_path}/nothing,{tmp_path}/lib",
        "-e", "COLOUR=red", "--env", "SHAPE=a b=c", "-m", "027", "elsewhere",
    )  # fmt: skip
    assert server.get("/cwd") == (200, str(tmp_path / "work").encode())
    assert server.get("/environ?COLOUR") == (200, b"red")
    assert server.get("/environ?SHAPE") == (200, b"a b=c")
    assert server.get("/ids")[1].endswith(b" 027")


def test_the_configuration_file_of_the_repository_starts_a_server(start: Start) -> None:
    conf = Path(__file__).parents[2] / "conf" / "forkserve.toml"
    server = start("-c", str(conf), "plain")
    assert server.get() == (200, b"hello")


def test_titles(start: Start) -> None:
    server = start("-w", "2", "-n", "shop", "plain")
    server.wait_for("is ready", count=2)
    titles = sorted(
        Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
        for pid in (server.pid, *server.workers())
    )
    assert titles == [
        "forkserve: master [shop]", "forkserve: worker 0 gen 1 [shop]",
        "forkserve: worker 1 gen 1 [shop]",
    ]  # fmt: skip


def test_closed_standard_streams_do_no_harm(tmp_path: Path) -> None:
    """Or else the first socket is descriptor 1, and a print of the application goes to a client."""
    log = tmp_path / "log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = f'exec "$0" -b 127.0.0.1:{port} --error-logfile {log} plain <&- >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", command, COMMAND], cwd=APPS, env=clean_environ())
    try:
        with Tail(log) as lines:
            lines.wait_for("serves")
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET /spoken HTTP/1.0\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 500")
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_the_first_answer_comes_soon(start: Start) -> None:
    """The figure is measured by the benchmarks; this is only for gross mistakes."""
    began = time.monotonic()
    server = start("plain")
    server.get()
    assert time.monotonic() - began < 5.0


def test_a_flag_is_an_option_without_a_value(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text("uwsgi_api = true\n")
    for arguments, env, shown in (
        ((), {}, "false  # default"),
        (("--uwsgi-api",), {"FORKSERVE_UWSGI_API": "0"}, "true  # --uwsgi-api"),
        (("-c", str(file)), {}, f"true  # {file}"),
        (("-c", str(file)), {"FORKSERVE_UWSGI_API": "false"}, "false  # FORKSERVE_UWSGI_API"),
    ):
        result = run("--print-config", *arguments, "plain", env=env)
        assert f"uwsgi_api = {shown}" in result.stdout.splitlines()


# ---- a disk that is full


def test_a_note_that_nobody_takes_is_no_reason_not_to_start(tmp_path: Path) -> None:
    """Standard error is a file on a full disk; the note is about -k."""
    log = tmp_path / "log"
    with (
        open("/dev/full", "w") as full,
        subprocess.Popen(
            [COMMAND, "-k", "gthread", "-b", "127.0.0.1:0", "--error-logfile", log, "plain"],
            env=clean_environ(), cwd=APPS, stderr=full,
        ) as process,
        Tail(log) as lines,
    ):  # fmt: skip
        lines.wait_for("serves plain on")
        process.terminate()
        assert process.wait(WAIT) == 0


def test_a_complaint_that_nobody_takes_has_its_status() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run([COMMAND, "-w", "x"], env=clean_environ(), stderr=full, check=False)
    assert result.returncode == 2


# ---- Ctrl-C before it serves


@pytest.mark.parametrize("name", ["forkserve", "forkservectl"])
def test_ctrl_c_while_python_reads_the_code_is_no_traceback(
    tmp_path: Path, gate: Path, name: str
) -> None:
    (tmp_path / "click.py").write_text(f"print('importing', flush=True)\nopen({str(gate)!r})")
    with subprocess.Popen(
        [Path(COMMAND).with_name(name)], env={**clean_environ(), "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=WAIT) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_ctrl_c_while_a_configuration_file_is_tried(tmp_path: Path, gate: Path) -> None:
    config = tmp_path / "f.py"
    config.write_text(f"open({str(gate)!r}).read()\n")
    with (
        subprocess.Popen(
            [COMMAND, "-c", config, "plain"], env=clean_environ(), stderr=subprocess.PIPE, text=True
        ) as process,
        gate.open("w"),
    ):  # when the file has come there
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "\nforkserve: interrupted, and nothing was started\n"
