"""The kinds of values that settings have: how people write them, and how we show them.

A kind reads text (environment, command line) and the native types of TOML alike. It raises
ValueError with the rest of a sentence: "8 workers" -> "is not a number".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from forkserve.net.address import group_id, parse_address, user_id
from forkserve.net.peers import parse_peer, show_peer
from forkserve.proc.cpus import usable_cpus
from forkserve.proc.memory import usable_memory

NONE = "none"


@dataclass(frozen=True, slots=True)
class Kind:
    """``read`` turns what a person wrote into the value, ``show`` a value into what a person would
    write, ``sort`` says in a word what is asked for. ``many``: the setting is a list, and ``read``
    is for one of its items. ``commas``: one text can hold several items."""

    sort: str
    read: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    many: bool = False
    commas: bool = False


def _text(raw: object) -> str:
    """The text of a scalar. TOML's true and false are not text that anybody meant."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError("is not one number or one text")
    return str(raw)


def _show(value: Any) -> str:
    return NONE if value is None else str(value)


def number(least: int, most: int, *, none: bool = False) -> Kind:
    """A whole number within bounds; ``none`` if that means "no limit"."""

    def read(raw: object) -> int | None:
        text = _text(raw)
        if none and text == NONE:
            return None
        if not re.fullmatch("-?[0-9]{1,18}", text):
            raise ValueError("is not a whole number" + (", nor none" if none else ""))
        return int(_bounded(int(text), least, most, none, str))

    return Kind("none|N" if none else "N", read, _show)


def _bounded(
    value: int | float, least: float, most: float, none: bool, show: Callable[[Any], str]
) -> Any:
    if value < least:
        if value == 0 and none:
            raise ValueError(f"is not a limit: write {NONE} for no limit")
        raise ValueError(f"is less than {show(least)}")
    if value > most:
        raise ValueError(f"is more than {show(most)}")
    return value


_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|)")
_SECONDS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "h": 3600.0}


def duration(
    least: float, most: float = 86400.0, *, none: bool = False, zero_is_none: bool = False
) -> Kind:
    """Seconds, as "30", "500ms", "5m" or "1h"."""

    def read(raw: object) -> float | None:
        text = _text(raw)
        if (none and text == NONE) or (zero_is_none and text == "0"):
            return None
        match = _DURATION.fullmatch(text)
        if match is None:
            raise ValueError("is not a time like 30, 500ms or 5m" + (", nor none" if none else ""))
        # To the microsecond, so that what is shown reads back the same.
        seconds = round(float(match[1]) * _SECONDS[match[2]], 6)
        return float(_bounded(seconds, least, most, none, show_duration))

    return Kind("none|TIME" if none else "TIME", read, show_duration)


def show_duration(seconds: float | None) -> str:
    """A short form that reads back the same."""
    if seconds is None:
        return NONE
    if seconds >= 120 and seconds % 60 == 0:
        return f"{seconds // 60:.0f}m"
    if seconds < 1 and round(seconds * 1000, 3) % 1 == 0:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)
_OCTETS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(least: int, most: int = 1 << 50, *, none: bool = False) -> Kind:
    """Octets, as "8190", "64K", "1M" or "2G" (powers of 1024)."""

    def read(raw: object) -> int | None:
        text = _text(raw)
        if none and text == NONE:
            return None
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError("is not a size like 8190, 64K or 1M" + (", nor none" if none else ""))
        octets = int(match[1]) * _OCTETS[match[2].upper()]
        return int(_bounded(octets, least, most, none, show_size))

    return Kind("none|SIZE" if none else "SIZE", read, show_size)


_SHARE = re.compile("([0-9]{1,3})%")


def size_or_share(least: int) -> Kind:
    """Octets, as in ``size``; or "25%" of what the cgroup allows or the machine has; or none."""
    octets = size(least, none=True)

    def read(raw: object) -> int | None:
        match = _SHARE.fullmatch(_text(raw))
        if match is None:
            try:
                return None if (value := octets.read(raw)) is None else int(value)
            except ValueError as error:
                raise ValueError(f"{error}; a share of the memory is 25%") from None
        if not 1 <= int(match[1]) <= 100:
            raise ValueError("is not a share from 1% to 100%")
        memory = usable_memory()
        if memory is None:
            raise ValueError("is a share of what nobody knows: /proc/meminfo cannot be read")
        return int(_bounded(memory * int(match[1]) // 100, least, 1 << 50, False, show_size))

    return Kind("none|SIZE|N%", read, show_size)


def show_size(octets: float | None) -> str:
    """With the largest unit that divides it."""
    if octets is None:
        return NONE
    for unit in "TGMK":
        if octets and octets % _OCTETS[unit] == 0:
            return f"{int(octets) // _OCTETS[unit]}{unit}"
    return str(int(octets))


def text(sort: str, *, none: bool = False, check: Callable[[str], object] | None = None) -> Kind:
    """Any text; ``check`` raises ValueError for one that cannot be."""

    def read(raw: object) -> str | None:
        value = _text(raw)
        if none and value == NONE:
            return None
        if not value or "\0" in value:
            raise ValueError("is empty" if not value else "holds a NUL")
        if check is not None:
            check(value)
        return value

    return Kind(f"none|{sort}" if none else sort, read, _show)


class LogTable(str):
    """What `log_config` is called where it is no file: ``table`` is its content, for dictConfig. A
    text, because that is what a file's name is."""

    table: Mapping[str, Any]

    def __new__(cls, name: str, table: Mapping[str, Any]) -> "LogTable":
        made = super().__new__(cls, name)
        made.table = table
        return made


def _read_log_config(raw: object) -> str | None:
    return raw if isinstance(raw, LogTable) else text("FILE", none=True).read(raw)


def choice(*words: str) -> Kind:
    """One of a few words."""

    def read(raw: object) -> str:
        value = str(raw).lower()  # "true" in TOML is as wrong as any other word
        if value not in words:
            raise ValueError(f"is none of {', '.join(words)}")
        return value

    return Kind("|".join(words), read)


_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def _read_flag(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    value = _FLAGS.get(_text(raw).lower())
    if value is None:
        raise ValueError("is neither true nor false")
    return value


def _show_flag(value: bool) -> str:
    return "true" if value else "false"


class Span(NamedTuple):
    """From how many workers to how many."""

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}:{self.most}"


def _read_workers(raw: object) -> Span:
    least, colon, most = _text(raw).partition(":")
    try:
        low = _read_count(least)
        high = _read_count(most) if colon else low
        if high < low:
            raise ValueError("has its greater number first")
    except ValueError as error:
        raise ValueError(f"{error}; write a number of workers, or auto, or MIN:MAX") from None
    return Span(low, high)


def _read_count(raw: str) -> int:
    return usable_cpus() if raw == "auto" else int(number(1, MOST_WORKERS).read(raw))


def _read_variable(raw: object) -> str:
    value = _text(raw)
    name, equals, _ = value.partition("=")
    if not (name and equals) or "\0" in value:
        raise ValueError("is not like NAME=VALUE")
    return value


def _read_path_prefix(raw: object) -> str:
    value = _text(raw)
    if not value.startswith("/") or set(value) & set("?#\0"):
        raise ValueError("is not a path like /upload")
    return value


def _read_glob(raw: object) -> str:
    value = _text(raw)
    if not value or "\0" in value:
        raise ValueError("is not a file, a directory, or a pattern like templates/*.html")
    return value


def _read_mode(raw: object) -> int | None:
    if raw == NONE:
        return None
    if isinstance(raw, int):
        # umask = 22 would be decimal in TOML, and octal everywhere else.
        raise ValueError('is a number: write the octal mode as a text, like "027"')
    if not (isinstance(raw, str) and re.fullmatch("(0o|0)?[0-7]{1,3}", raw)):
        raise ValueError("is not an octal mode like 027, nor none")
    return int(raw.removeprefix("0o"), 8)


def _show_mode(mode: int | None) -> str:
    return NONE if mode is None else f"{mode:04o}"  # the 0 keeps it from being a number of TOML


def _identity(look_up: Callable[[str], int]) -> Callable[[object], int | None]:
    return lambda raw: None if raw == NONE else look_up(_text(raw))


# Also of modules that no import statement can name: my-app, 01_app.
_APPLICATION = re.compile(r"(?![0-9]+(?:[:.]|$))\w[\w-]*(\.\w[\w-]*)*(:.+)?")


def _read_application(raw: object) -> str:
    value = _text(raw)
    if not _APPLICATION.fullmatch(value):
        path, colon, name = value.partition(":")
        module = path.removesuffix(".py").strip("./").replace("/", ".")
        meant = f"{module}{colon}{name}"
        hint = f": did you mean {meant}?" if _APPLICATION.fullmatch(meant) else ""
        raise ValueError(f"is not like module:callable{hint}")
    return value


MOST_WORKERS = 512
MOST_THREADS = 128  # 100 is what people write who hold connections open by threads
WORKERS = Kind("auto|N|MIN:MAX", _read_workers)
APPLICATION = Kind("MODULE:CALLABLE", _read_application, _show)
BINDS = Kind("ADDRESS", lambda raw: parse_address(_text(raw)), str, many=True)
PEERS = Kind("PEER", lambda raw: parse_peer(_text(raw)), show_peer, many=True, commas=True)
VARIABLES = Kind("NAME=VALUE", _read_variable, str, many=True)
LOG_CONFIG = Kind("none|FILE", _read_log_config, _show)
PATH_PREFIXES = Kind("PREFIX", _read_path_prefix, str, many=True)
GLOBS = Kind("FILE", _read_glob, str, many=True)
PATHS = Kind("DIR", text("DIR").read, str, many=True, commas=True)
FLAG = Kind("true|false", _read_flag, _show_flag)  # on the command line --name and --no-name
MODE = Kind("none|MODE", _read_mode, _show_mode)
USER = Kind("none|USER", _identity(user_id), _show)
GROUP = Kind("none|GROUP", _identity(group_id), _show)
