"""From defaults, configuration file, environment and command line to ``Settings``.

Each later source wins over the ones before it, and each value remembers where it came from. All
that is wrong is collected and raised at once: who repairs a configuration wants the whole list.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from forkserve.errors import SettingsError
from forkserve.net.peers import NOBODY
from forkserve.settings.conflicts import conflicts
from forkserve.settings.declared import Settings, declarations
from forkserve.settings.files import read_regular
from forkserve.settings.gunicorn import ENTRIES, Verdict
from forkserve.settings.kinds import Kind
from forkserve.settings.python_file import cannot_be_read, is_python, read_python

PREFIX = "FORKSERVE_"

_CONCURRENCY = "WEB_CONCURRENCY"

# What Kubernetes sets in every container beside a service that is named "forkserve", or
# "forkserve-web".
_OF_KUBERNETES = re.compile(
    rf"{PREFIX}(\w+?_)??"
    r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_[A-Z]+(_[A-Z]+)?|(?P<url>PORT))"
)

# Names under which people look for a setting because it is called so elsewhere: by another server
# than Gunicorn, whose own are in its table, or as an option of that.
_ELSEWHERE = {
    "access_logformat": "access_log_format",
    "limit_request_body": "max_body",
    "listen": "bind",
    "log_file": "error_logfile",
    "max_worker_lifetime": "max_lifetime",
    "processes": "workers",
    "reload_on_rss": "max_rss",
    "worker_processes": "workers",
}


# Settings that have a meaning only beside another.
_WITHOUT = {
    "max_requests": ("max_requests_jitter",),
    "certfile": ("ca_certs", "cert_reqs", "ciphers", "tls_min_version"),
    "statsd_host": ("statsd_prefix", "dogstatsd_tags"),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for each the words for where its value came from."""

    settings: Settings
    origins: Mapping[str, str]
    notes: tuple[str, ...] = ()  # what was accepted, and does nothing


def load_settings(
    file: str | None,
    environ: Mapping[str, str],
    command_line: Mapping[str, tuple[Any, str]],
    checks: Mapping[str, Callable[[Any], object]],
    known_problems: Sequence[str] = (),
    defaults: Mapping[str, tuple[Any, str]] = MappingProxyType({}),
) -> Loaded:
    """Read every source and combine them.

    ``command_line`` maps names to (text or list of texts, option as written); ``checks`` has, for
    some settings, a function of a higher layer that raises ValueError for a value it cannot use;
    ``known_problems`` are those of the command line, ``defaults`` are read before all else.
    Raises SettingsError with all problems.
    """
    problems = list(known_problems)
    notes: list[str] = []
    from_file = _from_file(file, problems, notes)
    if (from_file or {}).get("workers", ("", file))[1] != file:
        # A number that stands in Gunicorn's own file is meant, as there.
        environ = {name: raw for name, raw in environ.items() if name != _CONCURRENCY}
    sources = [
        {**_defaults_of_others(environ), **defaults},
        from_file or {},
        _from_environ(environ, problems),
        dict(command_line),
    ]
    declared = declarations()
    values: dict[str, Any] = {name: default for name, (_, default) in declared.items()}
    origins = dict.fromkeys(declared, "default")
    for source in sources:
        for name, (raw, origin) in source.items():
            try:
                value = _read(declared[name][0].kind, raw)
                checks.get(name, lambda _: None)(value)
            except ValueError as error:
                problems.append(f"{origin}: {name}: {error}")
            else:
                values[name], origins[name] = value, origin
    readable = from_file is not None and not known_problems
    if readable and not any("app" in source for source in sources):
        problems.append(
            "no application is named: give MODULE:CALLABLE, or `app` in the configuration file "
            "(forkserve init writes one)"
        )
    if origins["limit_request_head"] == "default":  # as much as the other limits need
        lines = (values["limit_request_line"], values["limit_request_field_size"])
        values["limit_request_head"] = max(values["limit_request_head"], *lines)
    notes += _drop_needless(values, origins, f"{file}, ")
    settings = Settings(**values, origins=origins)
    for name, (value, origin) in _adapted(settings).items():
        settings, origins[name] = replace(settings, **{name: value}), origin
    problems.extend(conflicts(settings))
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, origins, tuple(notes))


def _adapted(settings: Settings) -> dict[str, tuple[Any, str]]:
    """Defaults that are others in development: name -> (value, where it comes from).

    Who stops at a breakpoint, or looks at a frame, is not stuck. The debugger answers only who asks
    for a host that is this machine. A page of another site whose name has come to point here (DNS
    rebinding) cannot, unless it may say so itself, as a proxy; and its browser is on this machine.
    """
    adapted: dict[str, tuple[Any, str]] = {}
    for name in ("debugger", "reload"):
        if getattr(settings, name) and settings.origins["timeout"] == "default":
            adapted["timeout"] = (None, f"default with {name}")
    if settings.debugger and settings.origins["forwarded_allow_ips"] == "default":
        adapted["forwarded_allow_ips"] = ((NOBODY,), "default with debugger")
    return adapted


def _drop_needless(
    values: dict[str, Any], origins: dict[str, str], of_python: str
) -> Iterator[str]:
    """What does nothing without another setting gets its default, and a note, where that is no
    mistake: Gunicorn's files, whose origins begin with ``of_python``, often name every setting."""
    for without, names in _WITHOUT.items():
        if values[without] is not None or (without == "certfile" and values["keyfile"] is not None):
            continue
        for name in names:
            default = declarations()[name][1]
            harmless = without == "max_requests" or origins[name].startswith(of_python)
            if harmless and values[name] != default:
                yield f"{name} ({origins[name]}) does nothing without {without}"
                values[name], origins[name] = default, "default"


def _read(kind: Kind, raw: Any) -> Any:
    """The value of what was written, of one item or of a list. Raises ValueError."""
    if not kind.many:
        return _read_one(kind, raw)
    items: list[Any] = raw if isinstance(raw, list) else [raw]
    if kind.commas:
        items = [part for item in items for part in str(item).split(",")]
    return tuple(_read_one(kind, item) for item in items)


def _read_one(kind: Kind, raw: Any) -> Any:
    try:
        return kind.read(raw)
    except ValueError as error:
        text = str(raw).lower() if isinstance(raw, bool) else repr(raw)  # as in TOML
        text = text if len(text) <= 80 else f"{text[:77]}..."
        raise ValueError(f"{text} {error}") from None


def _defaults_of_others(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """PORT, which hosting platforms set, changes the default of ``bind``."""
    port = environ.get("PORT", "")
    return {"bind": (f":{port}", "PORT")} if port else {}


def _from_file(
    path: str | None, problems: list[str], notes: list[str]
) -> dict[str, tuple[Any, str]] | None:
    """None if the file cannot be read at all; then nothing is known to be missing from it."""
    if path is None:
        return {}
    if is_python(path):
        translated = read_python(path)
        problems += translated.problems
        notes += translated.notes
        return translated.values if translated.values or not translated.problems else None
    import tomllib  # only who has a configuration file waits for it

    try:
        table = tomllib.loads(read_regular(path).decode())
    except OSError as error:
        problems.append(cannot_be_read(path, error))
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        nor = "" if path.endswith(".toml") else f"; nor is it Python (file:{path} says why)"
        problems.append(f"{path}: this is not TOML: {error}{nor}")
        return None
    values = {}
    for key, raw in table.items():
        if isinstance(raw, dict):
            instead = f'write {key} = ["NAME=VALUE"]' if key == "env" else "settings stand above it"
            problems.append(f"{path}: [{key}] is a table, and there are none; {instead}")
        elif key in declarations():
            values[key] = (raw, path)
        else:
            problems.append(f"{path}: there is no setting {key!r}{suggestion(key)}")
    return values


def _from_environ(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[Any, str]]:
    values: dict[str, tuple[Any, str]] = {}
    if environ.get(_CONCURRENCY):
        values["workers"] = (environ[_CONCURRENCY], _CONCURRENCY)
    for variable, raw in environ.items():
        if not variable.startswith(PREFIX) or _is_of_kubernetes(variable, raw):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in declarations() and variable == variable.upper():
            kind = declarations()[name][0].kind
            if kind.commas:
                raw = re.sub(r"\s*,\s*", ",", raw)  # the blanks are no items between commas
            try:
                values[name] = (shlex.split(raw) if kind.many else raw, variable)
            except ValueError as error:
                problems.append(f"{variable}: {raw!r} cannot be split into words: {error}")
        else:
            problems.append(
                f"{variable}: there is no setting {name!r}{suggestion(name, _as_variable)}"
            )
    return values


def _is_of_kubernetes(variable: str, raw: str) -> bool:
    match = _OF_KUBERNETES.fullmatch(variable)
    # FORKSERVE_PORT=tcp://10.0.0.1:8000 is; FORKSERVE_PORT=8000 is a person's mistake.
    return match is not None and (match["url"] is None or "://" in raw)


def _as_variable(name: str) -> str:
    return PREFIX + name.upper()


def suggestion(name: str, spell: Callable[[str], str] = str) -> str:
    """The rest of a sentence, for a setting that does not exist: what was probably meant."""
    from difflib import get_close_matches  # only for mistakes

    name = name.lower().replace("-", "_")
    theirs = ENTRIES.get(name)
    if theirs is not None and theirs.verdict is not Verdict.SUPPORTED:
        return f"; {theirs.says}"
    close = (theirs.here if theirs is not None else "") or _ELSEWHERE.get(name)
    close = close or next(iter(get_close_matches(name, declarations(), 1)), None)
    return f"; did you mean {spell(close)}?" if close else ""
