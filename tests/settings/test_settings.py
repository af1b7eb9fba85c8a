"""Settings: kinds of values, sources, conflicts, and the documents made of them."""

import os
import re
from ipaddress import ip_network
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forkserve.errors import SettingsError
from forkserve.net.address import InetAddress
from forkserve.net.peers import parse_peer
from forkserve.proc.cpus import usable_cpus
from forkserve.proc.memory import usable_memory
from forkserve.settings import Settings, declarations, kinds, load_settings, reference
from forkserve.settings.gunicorn import ENTRIES
from forkserve.settings.sources import PREFIX, suggestion

ROOT = Path(__file__).parents[2]


def load(environ: dict[str, str] | None = None, file: Path | None = None, **given: Any) -> Settings:
    given.setdefault("app", "m:a")
    line = {name: (value, "--" + name.replace("_", "-")) for name, value in given.items()}
    return load_settings(str(file) if file else None, environ or {}, line, {}).settings


def problems(**given: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(**given)
    return caught.value.problems


def test_in_development_a_breakpoint_is_no_stuck_call() -> None:
    for name in ("reload", "debugger"):
        loaded = load_settings(None, {}, {"app": ("m", ""), name: ("yes", f"--{name}")}, {})
        assert loaded.settings.timeout is None
        assert loaded.origins["timeout"] == f"default with {name}"
        assert load(**{name: "yes", "timeout": "5"}).timeout == 5.0


def test_with_the_debugger_nobody_says_by_which_host_it_was_asked() -> None:
    loaded = load_settings(None, {}, {"app": ("m", ""), "debugger": ("yes", "--debugger")}, {})
    assert loaded.settings.forwarded_allow_ips == ("none",)
    assert loaded.origins["forwarded_allow_ips"] == "default with debugger"
    assert loaded.settings.timeout is None
    given = load(debugger="yes", forwarded_allow_ips="unix")
    assert given.forwarded_allow_ips == ("unix",)
    assert load(reload="yes").forwarded_allow_ips == load().forwarded_allow_ips


@pytest.mark.parametrize(
    ("bind", "refused"),
    [
        ("127.0.0.1:0", False), ("127.0.0.2:0", False), ("localhost:0", False), ("[::1]:0", False),
        ("unix:/x", False), ("fd://3", False), (":8000", True), ("0.0.0.0:0", True),
        ("[::]:0", True), ("10.0.0.1:0", True), ("[fe80::1%lo]:80", True),
    ],
)  # fmt: skip
def test_the_debugger_is_for_this_machine(bind: str, refused: bool) -> None:
    if not refused:
        assert load(debugger="yes", bind=bind).debugger
        return
    (problem,) = problems(debugger="yes", bind=["127.0.0.1:0", bind])
    assert problem.startswith("bind (--bind): the debugger runs whatever it is told, and ")
    assert load(reload="yes", bind=bind).reload


def test_the_debugger_needs_one_worker() -> None:
    assert "needs one worker" in problems(debugger="yes", workers="1:2")[0]
    assert load(debugger="yes", threads="4").threads == 4


def test_defaults() -> None:
    settings = load()
    for name, (_, default) in declarations().items():
        if name != "app":
            assert getattr(settings, name) == default, name


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("timeout", "30", 30.0), ("timeout", "500ms", 0.5), ("timeout", "5m", 300.0),
        ("timeout", "1.5s", 1.5), ("timeout", "2h", 7200.0), ("timeout", "none", None),
        ("timeout", "0", None), ("timeout", 30, 30.0), ("timeout", 0, None), ("timeout", 1.5, 1.5),
        ("max_body", "64K", 65536), ("max_body", "1M", 1 << 20), ("max_body", "2G", 2 << 30),
        ("max_body", "2GiB", 2 << 30), ("max_body", "10mb", 10 << 20), ("max_body", "8190", 8190),
        ("max_body", "none", None), ("max_body", 5, 5), ("buffer_body", "0", 0),
        ("workers", "4", (4, 4)), ("workers", 4, (4, 4)), ("workers", "2:8", (2, 8)), ("max_requests", "none", None),
        ("max_lifetime", "12h", 43200.0), ("max_lifetime", "none", None), ("scale_down_after", "5m", 300.0),
        ("max_rss", "512M", 512 << 20), ("max_rss", "none", None), ("max_rss", 1 << 20, 1 << 20),
        ("umask", "027", 0o27), ("umask", "0o27", 0o27), ("umask", "0", 0), ("umask", "none", None),
        ("log_level", "WARNING", "warning"), ("user", "none", None),
        ("env", ["A=b", "C=d e=f"], ("A=b", "C=d e=f")), ("pythonpath", ["a,b", "c"], ("a", "b", "c")),
        ("reload_extra", ["t/*.html", ".env"], ("t/*.html", ".env")), ("reload_engine", "POLL", "poll"),
        ("app", "a.b:c.d()", "a.b:c.d()"), ("forwarded_allow_ips", "none", ("none",)),
        ("forwarded_allow_ips", "unix, *", ("unix", "*")), ("forwarded_allow_ips", [], ()),
        ("forwarded_allow_ips", ["10.0.0.0/8,::1", "192.0.2.7"], (ip_network("10.0.0.0/8"), ip_network("::1"), ip_network("192.0.2.7"))),
        ("server_header", "1", True), ("server_header", "true", True), ("server_header", "YES", True),
        ("server_header", "0", False), ("server_header", "False", False), ("server_header", "no", False),
        ("server_header", True, True), ("server_header", False, False), ("server_header", 0, False),
        ("body_min_rate", "1K", 1024), ("body_min_rate", "none", None),
        ("uwsgi_api", True, True), ("uwsgi_api", False, False), ("uwsgi_api", "true", True), ("uwsgi_api", "1", True),
        ("uwsgi_api", "False", False), ("uwsgi_api", "0", False), ("uwsgi_api", 1, True),
        ("stream_path", ["/a", "/b,c/"], ("/a", "/b,c/")), ("stream_path", "/", ("/",)),
        ("status", [":9000"], (InetAddress("0.0.0.0", 9000),)), ("drain_delay", "10s", 10.0), ("drain_delay", "0", None),
        ("health_path", "/health", "/health"), ("metrics_path", "none", None),
        ("statsd_host", "localhost:8125", "localhost:8125"), ("statsd_host", "[::1]:8125", "[::1]:8125"),
        ("statsd_host", "unix:///run/statsd", "unix:///run/statsd"),
    ],
)  # fmt: skip
def test_values(name: str, text: Any, value: object) -> None:
    assert getattr(load(**{name: text}), name) == value


def test_words_of_statsd_are_as_they_were_written() -> None:
    settings = load(statsd_host="a:1", statsd_prefix="shop.web", dogstatsd_tags="env:a,region:b")
    assert (settings.statsd_prefix, settings.dogstatsd_tags) == ("shop.web", "env:a,region:b")


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("timeout", "soon", "is not a time"), ("timeout", "-1", "is not a time"),
        ("timeout", "1e3", "is not a time"), ("timeout", True, "is not one number or one text"),
        ("keep_alive", "0", "less than 100ms"), ("keep_alive", "none", "is not a time"),
        ("keep_alive", "25h", "more than 1440m"), ("max_body", "0", "is not a limit: write none"),
        ("max_body", "-1", "is not a size"), ("max_body", "1X", "is not a size"),
        ("health_path", "health", "is not a path"), ("metrics_path", "/a?b", "is not a path"),
        ("statsd_host", "localhost", "is not like localhost:8125"), ("statsd_host", "a:0", "from 1 to 65535"),
        ("statsd_host", "unix://run", "is not like unix:///"), ("statsd_host", "a:99999", "from 1 to 65535"),
        ("statsd_prefix", "a b", "ends a name"), ("statsd_prefix", "a:1", "ends a name"), ("dogstatsd_tags", "a|b", "ends a name"),
        ("drain_delay", "2h", "more than 60m"), ("max_body", "", "is not a size"), ("max_requests", "0", "is not a limit: write none"),
        ("max_requests", "1.5", "whole number"), ("max_requests", "\u0665", "whole number"),
        ("workers", "0", "less than 1"), ("workers", "many", "or auto"), ("workers", "513", "more than 512"),
        ("workers", "8:2", "'8:2' has its greater number first; write a number of workers, or auto, or"),
        ("workers", "0:2", "less than 1"), ("workers", "2:", "whole number"), ("workers", ":2", "MIN:MAX"),
        ("workers", "1:2:3", "whole number"), ("workers", "1:513", "more than 512"),
        ("max_lifetime", "0.5", "less than 1"), ("max_lifetime", "1000h", "more than 43200m"),
        ("max_rss", "0", "is not a limit: write none"), ("max_rss", "much", "nor none; a share of the memory is 25%"),
        ("max_rss", "0%", "'0%' is not a share from 1% to 100%"), ("max_rss", "101%", "from 1% to 100%"),
        ("max_rss", "1.5%", "is not a size"), ("max_rss", "-5%", "is not a size"), ("max_rss", "1023K", "less than 1M"),
        ("scale_down_after", "0", "less than 1"),
        ("backlog", "0", "less than 1"), ("backlog", [1], "is not one number or one text"), ("umask", "9", "octal"),
        ("umask", 22, "as a text"), ("umask", 0o27, "as a text"), ("umask", True, "as a text"),
        ("buffer_response", "65535", "less than 64K"), ("workers", "", "or auto"),
        ("user", "", "is no user"), ("error_logfile", "", "is empty"), ("timeout", "", "is not a time"),
        ("bind", [""], "is no address"), ("pythonpath", ["a,,b"], "is empty"), ("bind", [[]], "one text"),
         ("log_level", "loud", "none of debug"), ("chdir", "", "is empty"),
        ("env", ["novalue"], "NAME=VALUE"), ("env", ["=x"], "NAME=VALUE"), ("app", "1:a", "module:callable"),
        ("forwarded_allow_ips", "localhost", "'localhost' is no address and no network"),
        ("forwarded_allow_ips", "10.0.0.1/8", "write 10.0.0.1 or 10.0.0.0/8"), ("forwarded_allow_ips", "", "is empty"),
        ("forwarded_allow_ips", ["::1,"], "is empty"), ("forwarded_allow_ips", True, "is no address"),
        ("server_header", "", "neither true nor false"), ("server_header", "on", "neither true nor false"),
        ("server_header", 2, "neither true nor false"), ("server_header", [True], "one number or one text"),
        ("name", "a\0b", "NUL"), ("group", "no-such-group", "is no group"),
        ("uwsgi_api", "", "neither true nor false"),
        ("uwsgi_api", 2, "neither true nor false"), ("uwsgi_api", [True], "one text"),
        ("stream_path", ["up"], "is not a path like"), ("stream_path", ["/a?b"], "is not a path like"),
        ("stream_path", [True], "one text"), ("body_min_rate", "0", "is not a limit: write none"),
    ],
)  # fmt: skip
def test_values_that_are_refused(name: str, text: Any, part: str) -> None:
    (problem,) = problems(**{name: text})
    assert problem.startswith(f"--{name.replace('_', '-')}: {name}: ")
    assert part in problem


def test_lists_in_each_source(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text('bind = [":1", ":2"]\nenv = "A=b c"\n')
    settings = load(file=file)
    assert [str(item) for item in settings.bind] == ["0.0.0.0:1", "0.0.0.0:2"]
    assert settings.env == ("A=b c",)
    settings = load({"FORKSERVE_BIND": ":3 unix:/s,mode=600", "FORKSERVE_ENV": "'A=b c' D=e"})
    assert [str(item) for item in settings.bind] == ["0.0.0.0:3", "unix:/s,mode=600"]
    assert settings.env == ("A=b c", "D=e")


@pytest.mark.parametrize(
    "text", ["10.0.0.1, unix", "10.0.0.1,unix", "10.0.0.1 unix", " 10.0.0.1 ,unix "]
)
def test_peers_in_a_variable(text: str) -> None:
    found = load({"FORKSERVE_FORWARDED_ALLOW_IPS": text}).forwarded_allow_ips
    assert found == (parse_peer("10.0.0.1"), parse_peer("unix"))


def test_users_and_groups() -> None:
    for kind in (kinds.USER, kinds.GROUP):
        assert [kind.read(raw) for raw in ("0", 0, "root", "none")] == [0, 0, 0, None]


def test_auto_workers() -> None:
    count = usable_cpus()
    assert load(workers="auto").workers == (count, count)
    assert load(workers="1:auto").workers == (1, count)
    assert load(workers="auto:512").workers == (count, 512)


def test_a_share_of_the_memory() -> None:
    memory = usable_memory()
    assert memory is not None
    assert load(max_rss="25%").max_rss == memory // 4
    assert load(max_rss="100%").max_rss == memory


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("workrs = 4", ["'workrs'", "did you mean workers?"]),
        ("Timeout = 4", ["did you mean timeout?"]),
        ("proxy_protocol = true", ["proxy_protocol: true is none of off, on"]),
        ("keep-alive = 4", ["did you mean keep_alive?"]),
        ("accesslog = '-'", ["did you mean access_logfile?"]),
        ("proc_name = 'x'", ["did you mean name?"]),
        ("nothing_like_it_at_all = 1", ["there is no setting"]),
        ("daemon = true", ["'daemon'; it runs in the foreground"]),
        ("worker_class = 'gevent'", ["'worker_class'; there is one kind"]),
        ("preload_app = true", ["did you mean preload?"]),
        ('reload_extra_files = ["x"]', ["did you mean reload_extra?"]),
        ("[server]\nworkers = 4", ["[server] is a table", "settings stand above it"]),
        ("[env]\nA = 'b'", ["[env] is a table", 'write env = ["NAME=VALUE"]']),
        ("workers = ", ["this is not TOML"]),
        ("workers = '\xff'", ["this is not TOML"]),
    ],
)
def test_files_with_mistakes(tmp_path: Path, text: str, parts: list[str]) -> None:
    file = tmp_path / "f.toml"
    file.write_text(text, encoding="latin-1")
    (problem,) = problems(file=file)
    assert problem.startswith(str(file))
    assert all(part in problem for part in parts)


@pytest.mark.parametrize("text", ["workers = ", "workers = '\xff'", None])
def test_what_cannot_be_read_is_not_said_to_lack_an_application(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "f.toml"
    if text is not None:
        file.write_text(text, encoding="latin-1")
    with pytest.raises(SettingsError) as caught:
        load_settings(str(file), {}, {}, {})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{file}: ")


def test_problems_of_the_command_line_come_first_and_blame_nothing_on_the_application() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"FORKSERVE_WORKERS": "0"}, {}, {}, ["--x: there is no such option"])
    first, second = caught.value.problems
    assert first == "--x: there is no such option"
    assert second.startswith("FORKSERVE_WORKERS: workers: ")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("worker-class", f"; {ENTRIES['worker_class'].says}"),
        ("PRELOAD_APP", "; did you mean <preload>?"),
        ("keepalive", "; did you mean <keep_alive>?"),
        ("wrokers", "; did you mean <workers>?"),
        ("log-file", "; did you mean <error_logfile>?"),
        ("secure-scheme-headers", f"; {ENTRIES['secure_scheme_headers'].says}"),
        ("daemon", "; it runs in the foreground; let systemd or a container keep it"),
        ("initgroups", "; workers always have the groups of `user`"),
        ("reload-extra-files", "; did you mean <reload_extra>?"),
        ("statsd-hots", "; did you mean <statsd_host>?"),
        ("zzzzzzzzzzz", ""),
    ],
)
def test_suggestions(name: str, hint: str) -> None:
    assert suggestion(name, "<{}>".format) == hint


@pytest.mark.parametrize(
    "name",
    [
        "FORKSERVE_WORKRES",
        "FORKSERVE_keep_alive",
        "FORKSERVE_",
        "FORKSERVE_SERVICE",
        "FORKSERVE_PORT_X",
    ],
)
def test_variables_with_mistakes(name: str) -> None:
    (problem,) = problems(environ={name: "1"})
    assert problem.startswith(f"{name}: there is no setting")


def test_what_kubernetes_sets_for_a_service_named_forkserve_is_no_setting() -> None:
    variables = {
        "FORKSERVE_SERVICE_HOST": "10.0.0.1",
        "FORKSERVE_SERVICE_PORT": "8000",
        "FORKSERVE_SERVICE_PORT_HTTP": "8000",
        "FORKSERVE_PORT": "tcp://10.0.0.1:8000",
        "FORKSERVE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "FORKSERVE_PORT_8000_TCP_PROTO": "tcp",
        "FORKSERVE_PORT_8000_TCP_PORT": "8000",
        "FORKSERVE_PORT_8000_TCP_ADDR": "10.0.0.1",
        "FORKSERVE_WEB_SERVICE_HOST": "10.0.0.2",
        "FORKSERVE_WEB_SERVICE_PORT": "8000",
        "FORKSERVE_WEB_PORT": "tcp://10.0.0.2:8000",
    }
    assert load(variables) == load()
    assert "no setting 'port'" in problems(environ={"FORKSERVE_PORT": "8000"})[0]


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("WORKERS", "", "or auto"), ("USER", "", "is no user"), ("BIND", "", "names no address"),
        ("CHDIR", "", "is empty"), ("BIND", "':1", "cannot be split into words"),
    ],
)  # fmt: skip
def test_a_variable_that_is_empty_or_torn_is_a_problem(name: str, text: str, part: str) -> None:
    (problem,) = problems(environ={PREFIX + name: text})
    assert PREFIX + name in problem
    assert part in problem


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"app": None}, "no application is named"),
        ({"bind": []}, "bind (--bind) names no address"),
        ({"bind": ["[::1]:1", "[::1]:1"]}, "there twice"),
        ({"bind": ["fd://3", "fd://3"]}, "there twice"),
        ({"bind": [":1", "0.0.0.0:1"]}, "there twice"),
        ({"bind": ["unix:/a", "unix:/a,mode=600"]}, "there twice"),
        (
            {"bind": [":1"], "status": [":1"]},
            "status (--status): 0.0.0.0:1 is there already, in bind (--bind)",
        ),
        ({"status": ["unix:/a", "unix:/a,mode=600"]}, "unix:/a,mode=600 is there twice"),
        ({"health_path": "/a", "metrics_path": "/a"}, "one path cannot answer both"),
        (
            {"statsd_prefix": "a"},
            "statsd_prefix (--statsd-prefix) has no meaning without statsd_host",
        ),
        ({"dogstatsd_tags": "a:b"}, "no meaning without statsd_host"),
        ({"forwarded_allow_ips": "none,unix"}, "none stands alone"),
        ({"keyfile": "k"}, "keyfile (--keyfile) has no meaning without certfile"),
        ({"ca_certs": "c"}, "no meaning without certfile"),
        ({"ciphers": "AES"}, "no meaning without certfile"),
        ({"tls_min_version": "1.3"}, "no meaning without certfile"),
        ({"certfile": "c", "cert_reqs": "required"}, "cert_reqs (--cert-reqs) needs ca_certs"),
        ({"certfile": "c", "ca_certs": "c"}, "no meaning while cert_reqs is none (default)"),
        (
            {"certfile": "c", "ciphers": "AES", "tls_min_version": "1.3"},
            "ciphers (--ciphers) has no meaning with tls_min_version 1.3 (--tls-min-version)",
        ),
        ({"proxy_protocol": "on", "proxy_allow_from": "none"}, "names nobody"),
        ({"proxy_protocol": "on", "proxy_allow_from": []}, "names nobody"),
        ({"proxy_allow_from": "none,::1"}, "none stands alone"),
        (
            {"limit_request_line": "70000", "limit_request_head": "64K"},
            "limit_request_head (--limit-request-head)",
        ),
        (
            {"limit_request_field_size": "9000", "limit_request_head": "8500"},
            "longer than the whole",
        ),
    ],
)
def test_conflicts(given: dict[str, Any], part: str) -> None:
    if given.get("app", "") is None:
        with pytest.raises(SettingsError) as caught:
            load_settings(None, {}, {}, {})
        found = caught.value.problems
    else:
        found = problems(**given)
    assert len(found) == 1
    assert part in found[0]


def test_the_whole_head_may_be_as_long_as_one_line_of_it() -> None:
    assert load().limit_request_head == 65536
    assert load(limit_request_line="100000").limit_request_head == 100000
    assert load(limit_request_field_size="1M").limit_request_head == 1 << 20


def test_addresses_that_are_not_there_twice() -> None:
    for bind in ([":0", ":0"], [":1", "[::]:1"], ["unix:/a", "unix:/b"], ["fd://3", "fd://4"]):
        assert len(load(bind=bind).bind) == 2


def test_checks_of_higher_layers() -> None:
    def check(value: str) -> None:
        raise ValueError("'x' is wrong")

    with pytest.raises(SettingsError, match="--x: access_log_format: 'x' is wrong"):
        load_settings(
            None,
            {},
            {"app": ("m", "a"), "access_log_format": ("x", "--x")},
            {"access_log_format": check},
        )


# ---- what is shown reads back


def test_every_default_reads_back() -> None:
    for name, (declaration, default) in declarations().items():
        kind = declaration.kind
        if name != "app":
            for value in default if kind.many else (default,):
                assert kind.read(kind.show(value)) == value, name
        assert "none|none" not in kind.sort


DIGITS = st.from_regex("[0-9]{1,5}([.][0-9]{1,6})?", fullmatch=True)


@given(DIGITS, st.sampled_from(["", "s", "ms", "m", "h"]))
@example("0.35", "")
@example("486.583", "m")
@example("123.456789", "ms")
def test_a_time_reads_back_exactly(digits: str, unit: str) -> None:
    read = kinds.duration(0.0, 1e9).read
    seconds = read(digits + unit)
    assert read(kinds.show_duration(seconds)) == seconds


@given(st.integers(0, 10**15 - 1))
@example(1 << 40)
@example(10**15 - 1)
def test_a_size_reads_back_exactly(octets: int) -> None:
    assert kinds.size(0).read(kinds.show_size(octets)) == octets


@pytest.mark.parametrize("mode", [0, 0o22, 0o27, 0o77, 0o177, 0o644, 0o777])
def test_a_mode_reads_back(mode: int) -> None:
    assert kinds.MODE.read(kinds.MODE.show(mode)) == mode


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"bind": ["unix:/run/a.sock,mode=600,user=0,group=0", "[::1]:80", "fd://3"]},
        {"umask": "777"}, {"umask": "027"}, {"user": os.geteuid(), "group": os.getegid()}, {"workers": "3"},
        {"name": "007"}, {"name": "5"}, {"name": "\u0665"}, {"name": "\U0001f40d caf\xe9"},
        {"name": "a\x7f\x1b\\\"b\n"}, {"chdir": "1.5"}, {"app": "a.b:c('x')"},
        {"env": ["A=b c", "\U0001f40d='\"'"], "pythonpath": ["/a b,/c"]},
        {"forwarded_allow_ips": "*"}, {"forwarded_allow_ips": "unix,::ffff:10.0.0.0/104,2001:db8::7,0.0.0.0/0"},
        {"uwsgi_api": "true", "name": "true", "stream_path": ["/a b", "/\"c"], "body_min_rate": "none"},
        {"timeout": "none", "max_body": "none", "max_requests": "7", "keep_alive": "1234ms"},
    ],
)  # fmt: skip
def test_the_printed_configuration_is_the_one_in_force(tmp_path: Path, values: Any) -> None:
    line = {name: (value, "--x") for name, value in ({"app": "m:a"} | values).items()}
    loaded = load_settings(None, {}, line, {})
    file = tmp_path / "f.toml"
    file.write_text(reference.print_config(loaded), encoding="utf-8")
    again = load_settings(str(file), {}, {}, {})
    assert again.settings == loaded.settings
    assert set(again.origins.values()) == {str(file)}


# ---- documents


def test_every_setting_has_its_help_its_advice_and_its_option() -> None:
    for name, (declaration, _) in declarations().items():
        assert declaration.help.endswith((".", "...")), name
        assert declaration.advice.endswith("."), name
        if name != "app" and declaration.group != "Hooks":
            assert "--" + name.replace("_", "-") == declaration.options[-1]
        assert (PREFIX + name.upper()).isidentifier()


def test_a_group_of_settings_stands_in_one_place() -> None:
    groups = [group for group, _ in groupby(it.group for it, _ in declarations().values())]
    assert sorted(groups) == sorted({*groups})


def test_the_configuration_file_is_the_declared_one() -> None:
    """Made with: python -m forkserve.settings.reference toml > conf/forkserve.toml"""
    assert (ROOT / "conf" / "forkserve.toml").read_text() == reference.toml_file()


def test_the_configuration_file_holds_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    lines = reference.toml_file().splitlines()
    file.write_text(
        "\n".join(line[1:] for line in lines if line.startswith("#") and line[1:2].isalpha())
    )
    assert load(file=file) == load()


def test_the_table_of_the_readme_is_the_declared_one() -> None:
    """Made with: python -m forkserve.settings.reference rst"""
    assert reference.rst_table() in (ROOT / "README.rst").read_text()


def test_a_configuration_that_can_be_read_only_once_is_refused(tmp_path: Path) -> None:
    """The master reads it at each HUP: a pipe would stop it there, or be an empty file."""
    os.mkfifo(tmp_path / "pipe")
    (problem,) = problems(file=tmp_path / "pipe")
    assert "it is not a regular file, so a reload could not read it again" in problem


def test_no_asterisk_of_the_table_begins_an_emphasis() -> None:
    texts = [line[7:] for line in reference.rst_table().splitlines() if line[:7] == "     - "]
    plain = re.sub("``[^`]*``", "", "\n".join(texts))
    assert "\\*" in plain
    assert re.search(r"(?<!\\)\*", plain) is None
