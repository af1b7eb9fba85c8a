"""From defaults, configuration file, environment and command line to ``Settings``.

Each later source wins over the ones before it, and each value remembers where it came from. All
that is wrong is collected and raised at once: who repairs a configuration wants the whole list.
"""

import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from forkserve.errors import SettingsError
from forkserve.net.address import InetAddress
from forkserve.net.peers import NOBODY
from forkserve.settings import development
from forkserve.settings.declared import Settings, declarations
from forkserve.settings.gunicorn import ENTRIES, Verdict
from forkserve.settings.kinds import Kind
from forkserve.settings.python_file import is_python, read_python
from forkserve.settings.status import conflicts_of_status

PREFIX = "FORKSERVE_"

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
    settings = Settings(**values, origins=origins)
    for name, (value, origin) in development.adapt(settings, origins).items():
        settings, origins[name] = replace(settings, **{name: value}), origin
    problems.extend(_conflicts(settings, origins, os.geteuid()))
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, origins, tuple(notes))


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
        # Not blocking: a reload reads it too, and a pipe without a writer would stop the master.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                problems.append(
                    f"{path}: not a regular file, so a reload could not read it again. "
                    "Write it to one"
                )
                return None
            table = tomllib.load(file)
    except OSError as error:
        problems.append(
            f"{path}: the configuration file (--config) cannot be read: {error.strerror}. It must "
            f"be there, seen from {_directory()}, and user {os.geteuid()} be able to read it"
        )
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: this is not TOML: {error}")
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


def _directory() -> str:
    """Where a relative path begins, if that can be told."""
    try:
        return os.getcwd()
    except OSError:
        return "a directory that is gone"


def _from_environ(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[Any, str]]:
    values: dict[str, tuple[Any, str]] = {}
    if environ.get("WEB_CONCURRENCY"):
        values["workers"] = (environ["WEB_CONCURRENCY"], "WEB_CONCURRENCY")
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


def _conflicts(settings: Settings, origins: Mapping[str, str], euid: int) -> Iterator[str]:
    """Values that are possible each for itself, and not together."""

    def named(*names: str) -> str:
        return ", ".join(f"{name} ({origins[name]})" for name in names)

    if not settings.bind:
        yield f"{named('bind')} names no address"
    seen = set()
    for address in settings.bind:
        key = str(address).partition(",")[0]  # without the mode and the owners of a unix socket
        if key in seen and not (isinstance(address, InetAddress) and address.port == 0):
            yield f"{named('bind')}: {address} is there twice"
        seen.add(key)
    for name in ("forwarded_allow_ips", "proxy_allow_from"):
        if NOBODY in getattr(settings, name) and len(getattr(settings, name)) > 1:
            yield f"{named(name)}: none stands alone"
    if settings.max_requests_jitter and settings.max_requests is None:
        yield f"{named('max_requests_jitter')} has no meaning without max_requests"
    for name in ("limit_request_line", "limit_request_field_size"):
        if getattr(settings, name) > settings.limit_request_head:
            yield f"{named(name, 'limit_request_head')}: one line is longer than the whole head"
    yield from _conflicts_of_tls(settings, origins)
    yield from conflicts_of_status(settings, origins)
    yield from development.conflicts(settings, origins)
    if settings.proxy_protocol == "on" and settings.proxy_allow_from in ((), (NOBODY,)):
        yield f"{named('proxy_allow_from')} names nobody, and proxy_protocol is on"
    for name in ("user", "group"):
        wanted = getattr(settings, name)
        own = euid if name == "user" else os.getegid()
        if wanted is not None and euid != 0 and wanted != own:
            yield (
                f"{named(name)}: only root can change it; this is user {euid}. Leave it out, or "
                "start as root"
            )


def _conflicts_of_tls(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    if settings.certfile is None:
        for name in ("keyfile", "ca_certs", "ciphers", "tls_min_version"):
            if getattr(settings, name) != declarations()[name][1]:
                yield f"{name} ({origins[name]}) has no meaning without certfile"
    elif settings.ca_certs is not None and settings.cert_reqs == "none":
        # Whoever names them wants clients to be checked, and would not notice that none is.
        yield (
            f"ca_certs ({origins['ca_certs']}) has no meaning while cert_reqs is none "
            f"({origins['cert_reqs']}): no client is asked for a certificate"
        )
    if settings.certfile and settings.ciphers is not None and settings.tls_min_version == "1.3":
        yield (
            f"ciphers ({origins['ciphers']}) has no meaning with tls_min_version 1.3 "
            f"({origins['tls_min_version']}): they are those of TLS 1.2"
        )
    if settings.cert_reqs != "none" and settings.ca_certs is None:
        yield (f"cert_reqs ({origins['cert_reqs']}) needs ca_certs: whom to believe about clients")
