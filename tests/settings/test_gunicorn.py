"""Gunicorn's settings: each is in the table, and does what the table says."""

import re
import string
import sys
from pathlib import Path
from typing import Any

import pytest

from forkserve.cli import _command
from forkserve.errors import SettingsError
from forkserve.gunicorn_line import Line, not_read, not_used, read_line, read_surroundings
from forkserve.ops.access import compile_format
from forkserve.settings import declarations, load_settings
from forkserve.settings.gunicorn import ATOMS, ENTRIES, TABLE, VERSION, Entry, Verdict
from forkserve.settings.kinds import LogTable
from forkserve.settings.moving import rst_table
from forkserve.settings.python_file import is_python
from forkserve.settings.reference import print_config
from forkserve.settings.translation import in_our_form, spelled, translate

ROOT = Path(__file__).parents[2]
# What is here, and is no setting of its own.
WITHOUT = {
    "config", "check_config", "print_config", "disable_redirect_access_to_syslog", "syslog_addr",
    "syslog", "syslog_facility",
}  # fmt: skip


# What a file has that imports the class itself.
LoggerOfTheirs = type("Logger", (), {"__module__": "gunicorn.glogging"})


def known() -> dict[str, tuple[str, ...]]:
    lines = (Path(__file__).parent / "gunicorn_settings.txt").read_text().splitlines()
    assert f" {VERSION}:" in lines[0]
    return {name: tuple(options) for name, *options in (line.split() for line in lines[1:])}


def line_of(*words: str) -> Line:
    params = _command.make_context("forkserve", list(words), resilient_parsing=True).params
    for name in ("arguments", "check_config", "print_config", "gunicorn_env"):
        params.pop(name)
    return read_line(params, params.pop("config"))


def test_every_setting_is_in_the_table() -> None:
    assert {entry.name: entry.options for entry in TABLE} == known()
    assert len(ENTRIES) == len(TABLE) == 120


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.name)
def test_every_entry_has_its_words_and_its_counterpart(entry: Entry) -> None:
    assert entry.says
    assert len(entry.says) < 200
    if entry.verdict is Verdict.SUPPORTED:
        assert entry.says.endswith(".")
        assert entry.here in declarations() or entry.name in WITHOUT
    else:
        assert not entry.says.endswith(".")  # it is the rest of a sentence
        assert {*re.findall("`([a-z_]+)`", entry.says)} <= {*declarations()}


@pytest.mark.parametrize("option", [*spelled()])
def test_every_option_is_taken_and_does_what_the_table_says(option: str) -> None:
    entry = spelled()[option]
    line = line_of(option, *([] if entry.flag else ["1"]), "app:app")
    if entry.name in WITHOUT:
        return
    if entry.name == "worker_class":
        assert "is not used" in line.problems[0]
        return
    verdict, says = entry.verdict, entry.says
    if verdict is Verdict.REFUSED:
        assert (line.values, line.notes, len(line.problems)) == ({}, [], 1)
        assert line.problems[0].startswith("--")
        assert says in line.problems[0]
    elif verdict is Verdict.NEEDLESS:
        assert (line.values, line.problems, len(line.notes)) == ({}, [], 1)
        assert says in line.notes[0]
    else:
        assert [*line.values] == [entry.here]
        assert (line.notes, line.problems) == ([], [])


def test_options_that_are_ours_have_the_same_letters() -> None:
    for entry in TABLE:
        if entry.here in declarations() and entry.options:
            ours = set(declarations()[entry.here][0].options) | {*spelled()}
            assert ours >= set(entry.options), entry.name


@pytest.mark.parametrize(
    ("name", "raw", "ours", "value"),
    [
        ("bind", ["0.0.0.0"], "bind", ["0.0.0.0:8000"]),
        ("bind", ["localhost"], "bind", ["localhost:8000"]),
        ("bind", ["::1"], "bind", ["[::1]:8000"]),
        ("bind", ["tcp://127.0.0.1:80"], "bind", ["127.0.0.1:80"]),
        ("bind", ["unix:///tmp/a.sock"], "bind", ["unix:/tmp/a.sock"]),
        ("bind", ["unix:/tmp/a.sock"], "bind", ["unix:/tmp/a.sock"]),
        ("bind", "0.0.0.0:80, [::]:80", "bind", ["0.0.0.0:80", "[::]:80"]),
        ("bind", "unix:/a,mode=660,user=0", "bind", ["unix:/a,mode=660,user=0"]),
        ("bind", ("fd://3",), "bind", ["fd://3"]),
        ("timeout", 0, "timeout", 0), ("timeout", 90, "timeout", 90),
        ("timeout", "100000", "timeout", "none"), ("timeout", 86400, "timeout", 86400),
        ("graceful_timeout", 0, "graceful_timeout", "100ms"), ("keepalive", 0, "keep_alive", "100ms"),
        ("keepalive", 5, "keep_alive", 5), ("max_requests", 0, "max_requests", "none"),
        ("workers", 4.5, "workers", 4), ("limit_request_line", 0, "limit_request_line", "64K"),
        ("limit_request_field_size", "0", "limit_request_field_size", "64K"),
        ("umask", 0o027, "umask", "0027"), ("umask", "007", "umask", "007"),
        ("loglevel", "WARN", "log_level", "warning"), ("loglevel", "debug", "log_level", "debug"),
        ("cert_reqs", 0, "cert_reqs", "none"), ("cert_reqs", "2", "cert_reqs", "required"),
        ("ssl_version", "TLSv1_2", "tls_min_version", "1.2"), ("ssl_version", 5, "tls_min_version", "1.2"),
        ("ssl_version", 2, "tls_min_version", "1.2"), ("ssl_version", "TLSv1", "tls_min_version", "TLSv1"),
        ("proxy_protocol", True, "proxy_protocol", "on"), ("proxy_protocol", "v2", "proxy_protocol", "on"),
        ("proxy_protocol", False, "proxy_protocol", "off"),
        ("forwarded_allow_ips", "*", "forwarded_allow_ips", ["*"]),
        ("forwarded_allow_ips", "10.0.0.1,::1", "forwarded_allow_ips", ["10.0.0.1", "::1", "unix"]),
        ("forwarded_allow_ips", "", "forwarded_allow_ips", ["none"]),
        ("preload_app", True, "preload", True), ("pidfile", "x", "pid", "x"),
        ("control_socket", "/run/a.ctl", "control_socket", "/run/a.ctl"), ("control_socket_disable", True, "control_socket", "none"),
        ("graceful_timeout", 10**6, "graceful_timeout", 86400), ("keepalive", "99999", "keep_alive", 86400),
        ("statsd_host", "statsd.local", "statsd_host", "statsd.local:8125"),
        ("statsd_host", "10.0.0.1:9125", "statsd_host", "10.0.0.1:9125"), ("statsd_host", "none", "statsd_host", "none"),
        ("backlog", 100000, "backlog", 65535), ("backlog", 100, "backlog", 100),
        ("limit_request_fields", 32768, "limit_request_fields", 32768),
        ("limit_request_fields", 0, "limit_request_fields", 32768),
        ("accesslog", "", "access_logfile", "none"), ("certfile", "", "certfile", "none"),
        ("pythonpath", "", "pythonpath", []), ("pythonpath", "/a,/b", "pythonpath", "/a,/b"),
        ("preload_app", "True", "preload", True), ("capture_output", "false", "capture_output", False),
        ("access_log_format", "[%(p)s] %(h)15s %({x-a}i)s %%", "access_log_format", "[%(p)s] %(h)15s %({x-a}i)s %%"),
        ("wsgi_app", "a:b", "app", "a:b"), ("raw_env", ("A=b",), "env", ["A=b"]),
    ],
)  # fmt: skip
def test_forms_of_values(name: str, raw: Any, ours: str, value: Any) -> None:
    result = translate({name: (raw, "x")})
    assert result.values == {ours: (value, "x")}
    assert (result.notes, result.problems) == ([], [])


def test_a_unix_socket_without_a_directory_is_in_the_working_directory() -> None:
    assert in_our_form("bind", "unix:app.sock") == [f"unix:{Path.cwd()}/app.sock"]


def test_what_is_no_address_stays_as_it_is_for_the_kind_to_refuse() -> None:
    for text in ("nonsense", "8000", "a:b:c", "unix:"):
        assert in_our_form("bind", [text]) == [text]


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ("gevent", "--threads"), ("eventlet", "--threads"), ("gunicorn.workers.ggevent.GeventWorker", "--threads"),
        ("tornado", "--threads"), ("uvicorn.workers.UvicornWorker", "uvicorn"), ("uvicorn_worker.UvicornWorker", "uvicorn"),
        ("asgi", "uvicorn"), ("meinheld.gmeinheld.MeinheldWorker", "leave it out"), (object, "leave it out"),
    ],
)  # fmt: skip
def test_other_kinds_of_workers_are_refused(raw: Any, part: str) -> None:
    result = translate({"worker_class": (raw, "-k")})
    assert part in result.problems[0]
    assert result.notes == []


@pytest.mark.parametrize("raw", ["sync", "gthread", "gunicorn.workers.sync.SyncWorker"])
def test_the_kinds_that_work_in_threads_need_no_word(raw: str) -> None:
    result = translate({"worker_class": (raw, "-k")})
    assert result.problems == []
    assert "does nothing" in result.notes[0]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("daemon", False), ("reload", False), ("spew", False), ("paste", None), ("user", None),
        ("worker_tmp_dir", None), ("reuse_port", False), ("http_protocols", "h1"), ("header_map", "drop"),
        ("logconfig_dict", {}), ("dirty_apps", []), ("statsd_host", None), ("root_path", ""),
        ("worker_class", ""), ("control_socket_disable", False), ("daemon", "false"), ("spew", "False"),
        ("logger_class", "gunicorn.glogging.Logger"), ("logger_class", LoggerOfTheirs),
    ],
)  # fmt: skip
def test_what_asks_for_nothing_is_not_spoken_of(name: str, raw: Any) -> None:
    result = translate({name: (raw, "x")})
    assert (result.values, result.notes, result.problems) == ({}, [], [])


def test_a_jitter_of_nothing_is_dropped() -> None:
    assert [*line_of("--max-requests", "0", "--max-requests-jitter", "50").values] == [
        "max_requests"
    ]
    assert len(line_of("--max-requests", "9", "--max-requests-jitter", "50").values) == 2


def test_the_beginning_of_an_option_is_enough() -> None:
    line = line_of("--error-log", "-", "--worker-conn=9", "--max-requests", "7", "--worker", "3")
    assert {name: raw for name, (raw, _) in line.values.items()} == {
        "error_logfile": "-", "worker_connections": "9", "max_requests": "7",
    }  # fmt: skip  # --worker could be --workers, --worker-class and others
    assert line.problems == []


def test_a_short_option_may_have_an_equals_sign() -> None:
    line = line_of("-w=4", "-b=:80", "-k=sync", "-e=A=b", "-t", "=", "-n=")
    assert {name: raw for name, (raw, _) in line.values.items()} == {
        "workers": "4", "bind": [":80"], "env": ["A=b"], "timeout": "=", "name": "=",
    }  # fmt: skip
    assert len(line.notes) == 1


def test_a_word_about_the_proxy_protocol_may_be_left_out() -> None:
    assert line_of("--proxy-protocol", "-w", "2").values["proxy_protocol"][0] == "on"


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--log-syslog"], ["syslog+udp://localhost:514?facility=user"] * 2),
        (["--log-syslog", "--log-syslog-to", "unix:///dev/log#dgram"], ["syslog+unix:///dev/log?facility=user"] * 2),
        (
            ["--log-syslog", "--log-syslog-facility", "local3", "--disable-redirect-access-to-syslog"],
            ["syslog+udp://localhost:514?facility=local3"],
        ),
    ],
)  # fmt: skip
def test_a_syslog_is_an_address_of_the_logs(words: list[str], values: list[str]) -> None:
    line = line_of(*words)
    assert [raw for raw, _ in line.values.values()] == values
    assert line.problems == []


# ---- what Gunicorn reads besides


def surroundings(words: list[str], variables: dict[str, str]) -> Line:
    return read_surroundings(_command, line_of(*words), variables)


def test_the_arguments_of_the_environment_are_below_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {"GUNICORN_CMD_ARGS": "-w 3 --bind=127.0.0.1 --bind ':1' --reuse-port"}
    line = surroundings(["-w", "4", "-b", ":2"], variables)
    assert line.values == {"workers": ("4", "--workers"), "bind": ([":2"], "--bind")}
    assert line.notes[0].startswith("GUNICORN_CMD_ARGS --reuse-port is not needed")
    line = surroundings([], variables)
    assert line.values["bind"] == (["127.0.0.1:8000", ":1"], "GUNICORN_CMD_ARGS --bind")
    assert line.config is None
    line = surroundings([], {"GUNICORN_CMD_ARGS": "--access-logfile - - other:app"})
    assert line.values == {"access_logfile": ("-", "GUNICORN_CMD_ARGS --access-logfile")}
    assert line.problems == []  # an application that is named there is not looked at, as there


def test_the_configuration_file_is_found_as_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gunicorn.conf.py").touch()
    assert surroundings([], {}).config == "gunicorn.conf.py"
    assert surroundings([], {"GUNICORN_CMD_ARGS": "-c b.py"}).config == "b.py"
    assert surroundings(["-c", "a.py"], {"GUNICORN_CMD_ARGS": "-cb.py"}).config == "a.py"
    assert "--gunicorn-env" in not_read(line_of(), {})[0]
    assert not_read(line_of("-c", "a.py"), {}) == []
    assert (
        "FORWARDED_ALLOW_IPS is set"
        in not_read(line_of("-c", "a.py"), {"FORWARDED_ALLOW_IPS": "*"})[0]
    )
    assert (
        "GUNICORN_CMD_ARGS is set" in not_read(line_of("-c", "a.py"), {"GUNICORN_CMD_ARGS": "x"})[0]
    )


@pytest.mark.parametrize("text", ["--bind 'x", "--nonsense", "-w"])
def test_arguments_that_cannot_be_read_are_a_problem(text: str) -> None:
    line = surroundings([], {"GUNICORN_CMD_ARGS": text})
    assert line.problems[0].startswith("GUNICORN_CMD_ARGS: ")


def test_trusted_proxies_of_the_environment_are_behind_all_else(tmp_path: Path) -> None:
    line = surroundings([], {"FORWARDED_ALLOW_IPS": "10.0.0.1, unix"})
    loaded = load_settings(None, {}, {"app": ("a", "x")}, {}, (), line.defaults)
    assert [str(peer) for peer in loaded.settings.forwarded_allow_ips] == ["10.0.0.1/32", "unix"]
    file = tmp_path / "f.toml"
    file.write_text('forwarded_allow_ips = "none"')
    loaded = load_settings(str(file), {}, {"app": ("a", "x")}, {}, (), line.defaults)
    assert loaded.settings.forwarded_allow_ips == ("none",)


def test_a_prefix_of_the_environment_is_told_to_do_nothing() -> None:
    """It changes every route of the application."""

    def notes(variables: dict[str, str], *env: str) -> list[str]:
        given = {"app": ("m:a", "x"), **({"env": ([*env], "--env")} if env else {})}
        return not_used(load_settings(None, variables, given, {}), variables)

    assert notes({}) == notes({"SCRIPT_NAME": ""}) == notes({}, "SCRIPT_NAME_OF=/a") == []
    (note,) = notes({"SCRIPT_NAME": "/shop"})
    assert note.startswith("SCRIPT_NAME (the environment) is not used here, and PATH_INFO is the")
    (note,) = notes({}, "A=b", "SCRIPT_NAME=/shop")
    assert note.startswith("SCRIPT_NAME (--env) is not used here")


# ---- the file


def read(file: Path, text: str) -> Any:
    file.write_text(text)
    return load_settings(str(file), {}, {"app": ("m:a", "x")}, {})


def refusal(file: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(file, text)
    return caught.value.problems


def test_only_names_of_settings_count(tmp_path: Path) -> None:
    file = tmp_path / "gunicorn.conf.py"
    loaded = read(
        file,
        "import os, multiprocessing\nworkers = multiprocessing.cpu_count() * 2 + 1\nWORKERS = 0\n"
        "name = user_name = 5\nenv = app = pid = queue_timeout = object()\nbind = '127.0.0.1:0'\n"
        "worker_tmp_dir = '/dev/shm'\nerrorlog = None\naccesslog = '-'\non_exit = None\n"
        "def helper(): pass\ndef post_fork(server, worker): pass\n",
    )
    settings = loaded.settings
    assert settings.workers.least > 2
    assert settings.name is None and settings.env == () and settings.app == "m:a"
    assert loaded.origins["workers"] == f"{file}, workers"
    assert str(settings.post_fork) == "gunicorn.conf.py:post_fork"
    assert settings.on_exit is None and settings.error_logfile == "-"
    assert len(loaded.notes) == 1 and "worker_tmp_dir is not needed" in loaded.notes[0]


def test_all_that_is_wrong_with_the_file_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "g.py"
    text = (
        "workers = 0\nworker_class = 'gevent'\ndaemon = True\nssl_version = 'SSLv3'\npre_fork = 3\n"
    )
    problems = refusal(file, text)
    for part in (
        f"{file}, workers: workers: 0 is less than 1", "worker_class gevent: there are no greenlets",
        "daemon: daemon has no counterpart here: it runs in the foreground",
        "tls_min_version: 'SSLv3' is none of 1.2, 1.3", "pre_fork: 3 is not like module:function",
    ):  # fmt: skip
        assert any(part in problem for problem in problems), part


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("open('/nowhere')", "it was run, and raised FileNotFoundError"),
        (
            "from gunicorn import glogging",
            "Gunicorn is not installed here, and none of its modules",
        ),
        ("def :", "SyntaxError"),
    ],
)
def test_a_file_that_fails_is_told_with_its_line(
    tmp_path: Path, text: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gunicorn", None)  # as if it were not installed
    (problem,) = refusal(tmp_path / "g.py", f"x = 1\n{text}\n")
    assert part in problem.splitlines()[0]
    assert "g.py" in problem
    assert "forkserve/" not in problem


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(
        SettingsError,
        match=r"/nowhere/g\.py: the configuration file \(--config\) cannot be read: No such file",
    ):
        load_settings("/nowhere/g.py", {}, {"app": ("a", "x")}, {})


def test_a_module_can_be_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "of_a_module.py").write_text("threads = 3\n")
    loaded = load_settings("python:of_a_module", {}, {"app": ("a", "x")}, {})
    assert loaded.settings.threads == 3
    (tmp_path / "settings_of_gunicorn").write_text("threads = 4\n")
    loaded = load_settings(f"file:{tmp_path}/settings_of_gunicorn", {}, {"app": ("a", "x")}, {})
    assert loaded.settings.threads == 4


@pytest.mark.parametrize(
    ("name", "text", "is_theirs"),
    [
        ("gunicorn.conf", "import os\nworkers = 3\n", True),
        ("gunicorn", "workers = 3  # and no import\nkeepalive = 5\n", True),
        ("shop.config", "workers = 3\n\ndef post_fork(server, worker):\n    pass\n", True),
        ("shop.conf", "workers = 3\nkeep_alive = 5\n", False),
        ("shop.conf", "workers = 3\n", False),
        ("shop.toml", "workers = 3\n", False),
        ("shop.py", "workers = 3\n", True),
    ],
)
def test_a_file_of_another_name_is_told_by_what_it_says(
    tmp_path: Path, name: str, text: str, is_theirs: bool
) -> None:
    file = tmp_path / name
    loaded = read(file, text)
    assert is_python(str(file)) is is_theirs
    assert loaded.settings.workers == (3, 3)
    assert loaded.origins["workers"] == (f"{file}, workers" if is_theirs else str(file))


def test_a_file_of_another_name_that_is_neither(tmp_path: Path) -> None:
    file = tmp_path / "gunicorn.conf"
    (problem,) = refusal(file, "workers = \n")
    assert problem.startswith(f"{file}: this is not TOML: ")
    assert problem.endswith(f"; nor is it Python (file:{file} says why)")
    (problem,) = refusal(file, "workres = 3\n")
    assert "there is no setting 'workres'; did you mean workers?" in problem
    assert not is_python(str(tmp_path)) and not is_python(str(tmp_path / "gone"))


def test_modules_of_the_application_are_better_imported_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    (tmp_path / "near_by.py").touch()
    loaded = read(tmp_path / "g.py", "import json, near_by, flask\n")
    (note,) = loaded.notes
    assert f"{tmp_path}/g.py imports near_by: workers have what it imports" in note
    del sys.modules["near_by"]


def test_a_jitter_without_its_requests_is_no_reason_to_stop(tmp_path: Path) -> None:
    file = tmp_path / "g.py"
    loaded = read(file, "max_requests_jitter = 50\n")
    assert (loaded.settings.max_requests_jitter, loaded.origins["max_requests_jitter"]) == (
        0, "default",
    )  # fmt: skip
    assert "does nothing without max_requests" in loaded.notes[0]
    line = {"app": ("m:a", "x"), "max_requests": ("100", "--max-requests")}
    loaded = load_settings(str(file), {}, line, {})
    assert (loaded.settings.max_requests_jitter, loaded.notes) == (50, ())


def test_a_number_of_workers_in_the_file_is_meant(tmp_path: Path) -> None:
    """As there, where WEB_CONCURRENCY is the default. Platforms set it unasked."""

    def workers(name: str, text: str, **environ: str) -> tuple[object, str]:
        file = tmp_path / name
        file.write_text(text)
        loaded = load_settings(str(file), environ, {"app": ("m:a", "x")}, {})
        return loaded.settings.workers.least, loaded.origins["workers"]

    assert workers("g.py", "workers = 1\n", WEB_CONCURRENCY="4") == (1, f"{tmp_path}/g.py, workers")
    assert workers("g.py", "threads = 1\n", WEB_CONCURRENCY="4") == (4, "WEB_CONCURRENCY")
    own = {"WEB_CONCURRENCY": "4", "FORKSERVE_WORKERS": "3"}
    assert workers("g.py", "workers = 1\n", **own) == (3, "FORKSERVE_WORKERS")
    assert workers("g.toml", "workers = 1\n", WEB_CONCURRENCY="4") == (4, "WEB_CONCURRENCY")


def test_a_file_may_name_what_does_nothing_alone(tmp_path: Path) -> None:
    file = tmp_path / "g.py"
    text = (
        "certfile = keyfile = None\nca_certs = 'ca.pem'\ncert_reqs = 2\nciphers = 'TLSv1'\n"
        "ssl_version = 'TLSv1_3'\nstatsd_prefix = 'shop'\n"
    )
    loaded = read(file, text)
    assert [note.partition(" ")[0] for note in loaded.notes] == [
        "ca_certs", "cert_reqs", "ciphers", "tls_min_version", "statsd_prefix",
    ]  # fmt: skip
    assert loaded.notes[3] == f"tls_min_version ({file}, ssl_version) does nothing without certfile"
    assert loaded.settings == read(file, "").settings
    (problem,) = refusal(file, "keyfile = 'key.pem'\n")  # or it would be plain HTTP, unnoticed
    assert "has no meaning without certfile" in problem


def test_an_atom_that_is_none_is_a_hyphen_as_there(tmp_path: Path) -> None:
    loaded = read(tmp_path / "g.py", "access_log_format = '%(asctime)s %(h)-9s %(x)s %({a}z)s'\n")
    assert loaded.settings.access_log_format == "- %(h)-9s - -"
    (note,) = loaded.notes
    assert "access_log_format has %(asctime)s, %(x)s, %({a}z)s, which is no atom" in note


def test_atoms_are_those_of_the_access_log() -> None:
    compile_format("".join(f"%({letter})s" for letter in sorted(ATOMS)))
    with pytest.raises(ValueError, match="knows no atom"):
        compile_format(f"%({(set(string.ascii_letters) - ATOMS).pop()})s")


def test_a_table_for_the_logs_has_the_name_of_its_file(tmp_path: Path) -> None:
    text = "logconfig = 'logging.conf'\nlogconfig_dict = {'handlers': {'a': {'class': object}}}\n"
    loaded = read(tmp_path / "g.py", text)
    assert loaded.settings.log_config == "g.py:logconfig_dict"
    assert isinstance(loaded.settings.log_config, LogTable)
    assert loaded.settings.log_config.table == {"handlers": {"a": {"class": object}}}
    assert 'log_config = "g.py:logconfig_dict"  # ' in print_config(loaded)


def test_a_hook_can_be_named_as_there(tmp_path: Path) -> None:
    loaded = read(tmp_path / "g.py", "post_fork = 'shop.hooks.after_fork'\n")
    assert str(loaded.settings.post_fork) == "shop.hooks:after_fork"


def test_hooks_can_be_named_in_toml(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text('app = "a"\npost_fork = "hooks.of:post_fork"\n')
    assert str(load_settings(str(file), {}, {}, {}).settings.post_fork) == "hooks.of:post_fork"
    file.write_text('app = "a"\npost_fork = "post_fork"\n')
    with pytest.raises(SettingsError, match="is not like module:function"):
        load_settings(str(file), {}, {}, {})


# ---- documents


def readme() -> str:
    return (ROOT / "README.rst").read_text()


def test_the_page_of_the_readme_is_the_table() -> None:
    """Made with: python -m forkserve.settings.moving README.rst"""
    assert rst_table() in readme()


@pytest.mark.parametrize("server", ["Gunicorn", "uWSGI", "waitress"])
def test_each_page_speaks_of_options_and_settings_that_there_are(server: str) -> None:
    """In its right columns, and in the commands that are to replace theirs."""
    begin = readme().index(f"\nComing from {server}\n===")
    page = readme()[begin:].partition("\n\n\nComing from ")[0].partition("\n\n\nDevelop it")[0]
    right = "\n".join(re.findall(r"^     - (.*)$", page, re.MULTILINE))
    right += "\n".join(re.findall(r"^ *forkserve .*$", page, re.MULTILINE))
    options = {word for declaration, _ in declarations().values() for word in declaration.options}
    options |= {*spelled(), "--gunicorn-env", "--config", "-c", "--no-server-header"}
    named = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", right)) - {"-m"}
    assert named <= options | {"-w"}, named - options
    assert len(right.splitlines()) >= 20


def test_no_option_of_a_setting_is_missing_on_the_pages() -> None:
    for entry in TABLE:
        assert f"``{entry.name}``" in readme()
