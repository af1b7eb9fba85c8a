"""From defaults, configuration file, environment and command line to ``Settings``.

Each later source wins over the ones before it, and each value remembers where it came from. All
that is wrong is collected and raised at once: who repairs a configuration wants the whole list.
"""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from forkserve.errors import SettingsError
from forkserve.net.address import InetAddress
from forkserve.settings.declared import Declaration, Settings, declarations
from forkserve.settings.kinds import Kind

PREFIX = "FORKSERVE_"

# Names under which people look for a setting because another server, Gunicorn above all, calls it
# so in its configuration file.
_ELSEWHERE = {
    "accesslog": "access_logfile",
    "access_log_format": "access_logformat",
    "errorlog": "error_logfile",
    "loglevel": "log_level",
    "keepalive": "keep_alive",
    "limit_request_body": "max_body",
    "listen": "bind",
    "pidfile": "pid",
    "processes": "workers",
    "proc_name": "name",
    "raw_env": "env",
    "worker_processes": "workers",
    "worker_tmp_dir": "tmp_dir",
    "wsgi_app": "app",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for each the words for where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    file: str | None,
    environ: Mapping[str, str],
    command_line: Mapping[str, tuple[Any, str]],
    checks: Mapping[str, Callable[[Any], object]],
) -> Loaded:
    """Read every source and combine them.

    ``command_line`` maps names to (text or list of texts, option as written); ``checks`` has, for
    some settings, a function of a higher layer that raises ValueError for a value it cannot use.
    Raises SettingsError with all problems.
    """
    problems: list[str] = []
    sources = [
        _defaults_of_others(environ),
        _from_file(file, problems),
        _from_environ(environ, problems),
        dict(command_line),
    ]
    declared = declarations()
    values: dict[str, Any] = {name: default for name, (_, default) in declared.items()}
    origins = dict.fromkeys(declared, "default")
    for source in sources:
        for name, (raw, origin) in source.items():
            declaration, _ = declared[name]
            try:
                value = _read(declaration, raw, origin)
                checks.get(name, lambda _: None)(value)
            except ValueError as error:
                problems.append(f"{origin}: {name}: {error}")
            else:
                values[name], origins[name] = value, origin
    if not any("app" in source for source in sources):
        problems.append(
            "no application is named: give MODULE:CALLABLE, or `app` in the configuration file"
        )
    settings = Settings(**values)
    problems.extend(_conflicts(settings, origins, os.geteuid()))
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, origins)


def _read(declaration: Declaration, raw: Any, origin: str) -> Any:
    """The value of what was written, of one item or of a list. Raises ValueError."""
    kind = declaration.kind
    if not kind.many:
        return _read_one(kind, raw)
    items: list[Any] = raw if isinstance(raw, list) else [raw]
    if origin.startswith(PREFIX):
        items = shlex.split(raw)
    if kind.commas:
        items = [part for item in items for part in str(item).split(",")]
    return tuple(_read_one(kind, item) for item in items)


def _read_one(kind: Kind, raw: Any) -> Any:
    try:
        return kind.read(raw)
    except ValueError as error:
        text = repr(raw)
        text = text if len(text) <= 80 else f"{text[:77]}..."
        raise ValueError(f"{text} {error}") from None


def _defaults_of_others(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """PORT, which hosting platforms set, changes the default of ``bind``."""
    port = environ.get("PORT", "")
    return {"bind": (f":{port}", "PORT")} if port else {}


def _from_file(path: str | None, problems: list[str]) -> dict[str, tuple[Any, str]]:
    if path is None:
        return {}
    import tomllib  # only who has a configuration file waits for it

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        problems.append(f"{path}: the configuration file cannot be read: {error.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: this is not TOML: {error}")
        return {}
    values = {}
    for key, raw in table.items():
        if isinstance(raw, dict):
            problems.append(f"{path}: [{key}] is a table; all settings stand at the top level")
        elif key in declarations():
            values[key] = (raw, path)
        else:
            problems.append(f"{path}: there is no setting {key!r}{_suggestion(key)}")
    return values


def _from_environ(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[Any, str]]:
    values: dict[str, tuple[Any, str]] = {}
    if environ.get("WEB_CONCURRENCY"):
        values["workers"] = (environ["WEB_CONCURRENCY"], "WEB_CONCURRENCY")
    for variable, raw in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in declarations() and variable == variable.upper():
            values[name] = (raw, variable)
        else:
            problems.append(
                f"{variable}: there is no setting {name!r}{_suggestion(name, _as_variable)}"
            )
    return values


def _as_variable(name: str) -> str:
    return PREFIX + name.upper()


def _suggestion(name: str, spell: Callable[[str], str] = str) -> str:
    """The rest of a sentence that names the setting that was probably meant."""
    from difflib import get_close_matches  # only for mistakes

    name = name.lower().replace("-", "_")
    close = _ELSEWHERE.get(name) or next(iter(get_close_matches(name, declarations(), 1)), None)
    return f"; did you mean {spell(close)}?" if close else ""


def _conflicts(settings: Settings, origins: Mapping[str, str], euid: int) -> Iterator[str]:
    """Values that are possible each for itself, and not together."""

    def named(*names: str) -> str:
        return ", ".join(f"{name} ({origins[name]})" for name in names)

    seen = set()
    for address in settings.bind:
        key = (address.host, address.port) if isinstance(address, InetAddress) else str(address)
        if key in seen and not (isinstance(address, InetAddress) and address.port == 0):
            yield f"{named('bind')}: {address} is there twice"
        seen.add(key)
    if settings.max_requests_jitter and settings.max_requests is None:
        yield f"{named('max_requests_jitter')} has no meaning without max_requests"
    for name in ("limit_request_line", "limit_request_field_size"):
        if getattr(settings, name) > settings.limit_request_head:
            yield f"{named(name, 'limit_request_head')}: one line is longer than the whole head"
    for name in ("user", "group"):
        wanted = getattr(settings, name)
        own = euid if name == "user" else os.getegid()
        if wanted is not None and euid != 0 and wanted != own:
            yield f"{named(name)}: only root can change it; this is user {euid}"
