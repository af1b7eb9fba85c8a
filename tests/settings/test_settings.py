"""Settings: kinds of values, sources, conflicts, and the documents made of them."""

from pathlib import Path
from typing import Any

import pytest

from forkserve.errors import SettingsError
from forkserve.settings import Settings, declarations, load_settings, reference
from forkserve.settings.sources import PREFIX

ROOT = Path(__file__).parents[2]


def load(environ: dict[str, str] | None = None, file: Path | None = None, **given: Any) -> Settings:
    given.setdefault("app", "m:a")
    line = {name: (value, "--" + name.replace("_", "-")) for name, value in given.items()}
    return load_settings(file and str(file), environ or {}, line, {}).settings


def problems(**given: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(**given)
    return caught.value.problems


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
        ("workers", "4", 4), ("workers", 4, 4), ("max_requests", "none", None),
        ("umask", "027", 0o27), ("umask", "0o27", 0o27), ("umask", 0o27, 0o27), ("umask", "none", None),
        ("log_level", "WARNING", "warning"), ("user", "0", 0), ("user", "root", 0), ("user", "none", None),
        ("env", ["A=b", "C=d e=f"], ("A=b", "C=d e=f")), ("pythonpath", ["a,b", "c"], ("a", "b", "c")),
        ("app", "a.b:c.d()", "a.b:c.d()"),
    ],
)  # fmt: skip
def test_values(name: str, text: Any, value: object) -> None:
    assert getattr(load(**{name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("timeout", "soon", "is not a time"), ("timeout", "-1", "is not a time"),
        ("timeout", "1e3", "is not a time"), ("timeout", True, "single value"),
        ("keep_alive", "0", "less than 100ms"), ("keep_alive", "none", "is not a time"),
        ("keep_alive", "25h", "more than 1440m"), ("max_body", "0", "write none for no limit"),
        ("max_body", "-1", "is not a size"), ("max_body", "1X", "is not a size"),
        ("max_body", "", "is not a size"), ("max_requests", "0", "write none for no limit"),
        ("max_requests", "1.5", "whole number"), ("max_requests", "\u0665", "whole number"),
        ("workers", "0", "less than 1"), ("workers", "many", "or auto"), ("workers", "513", "more than 512"),
        ("backlog", "0", "less than 1"), ("backlog", [1], "single value"), ("umask", "9", "octal"),
        ("umask", -1, "octal"), ("log_level", "loud", "none of debug"), ("chdir", "", "is empty"),
        ("env", ["novalue"], "NAME=VALUE"), ("env", ["=x"], "NAME=VALUE"), ("app", "1:a", "module:callable"),
        ("name", "a\0b", "NUL"), ("group", "no-such-group", "is no group"),
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
    assert [str(item) for item in settings.bind] == ["0.0.0.0:3", "unix:/s"]
    assert settings.env == ("A=b c", "D=e")


def test_auto_workers() -> None:
    assert load(workers="auto").workers >= 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("workrs = 4", ["'workrs'", "did you mean workers?"]),
        ("Timeout = 4", ["did you mean timeout?"]),
        ("keep-alive = 4", ["did you mean keep_alive?"]),
        ("accesslog = '-'", ["did you mean access_logfile?"]),
        ("proc_name = 'x'", ["did you mean name?"]),
        ("nothing_like_it_at_all = 1", ["there is no setting"]),
        ("[server]\nworkers = 4", ["[server] is a table"]),
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


@pytest.mark.parametrize("name", ["FORKSERVE_WORKRES", "FORKSERVE_keep_alive", "FORKSERVE_"])
def test_variables_with_mistakes(name: str) -> None:
    (problem,) = problems(environ={name: "1"})
    assert problem.startswith(f"{name}: there is no setting")


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"app": None}, "no application is named"),
        ({"bind": [":1", "0.0.0.0:1"]}, "there twice"),
        ({"bind": ["unix:/a", "unix:/a,mode=600"]}, "there twice"),
        ({"max_requests_jitter": "5"}, "without max_requests"),
        ({"limit_request_line": "70000"}, "limit_request_head (default)"),
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


def test_checks_of_higher_layers() -> None:
    def check(value: str) -> None:
        raise ValueError("'x' is wrong")

    with pytest.raises(SettingsError, match="--x: access_logformat: 'x' is wrong"):
        load_settings(
            None,
            {},
            {"app": ("m", "a"), "access_logformat": ("x", "--x")},
            {"access_logformat": check},
        )


# ---- documents


def test_every_setting_has_its_help_its_advice_and_its_option() -> None:
    for name, (declaration, _) in declarations().items():
        assert declaration.help.endswith((".", "...")), name
        assert declaration.advice.endswith("."), name
        if name != "app":
            assert "--" + name.replace("_", "-") == declaration.options[-1]
        assert (PREFIX + name.upper()).isidentifier()


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
