"""Gunicorn's command line, for those who replace the word: its options, the forms of their values,
and what Gunicorn reads of its surroundings.

Options that are ours under the same name are read by us; the others are added to our command,
hidden, and mean what ``settings.gunicorn`` says of them.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from forkserve.errors import EXIT_INTERRUPTED
from forkserve.proc.descriptors import tell
from forkserve.settings import Loaded, declarations
from forkserve.settings.gunicorn import ENTRIES, TABLE, Entry
from forkserve.settings.translation import in_our_form, spelled, translate

VARIABLE = "GUNICORN_CMD_ARGS"
_PROXIES = "FORWARDED_ALLOW_IPS"
_PREFIX = "SCRIPT_NAME"
_FILE = "gunicorn.conf.py"
_PARAMETER = "gunicorn_"

Given = dict[str, tuple[Any, str]]


@dataclass(slots=True)
class Line:
    """``values``: name of ours -> (raw, origin); ``defaults`` the same, behind all other sources;
    ``config``: the configuration file, if one is named."""

    values: Given = field(default_factory=dict)
    defaults: Given = field(default_factory=dict)
    config: str | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def add_options(command: click.Command) -> None:
    """Gunicorn's options that are none of ours."""
    options: dict[str, list[str]] = {}
    for option, entry in spelled().items():
        options.setdefault(entry.name, []).append(option)
    for name, spellings in options.items():
        entry = ENTRIES[name]
        command.params.append(
            click.Option(
                [*spellings, f"{_PARAMETER}{name}"],
                is_flag=entry.flag,
                flag_value=True if entry.flag else None,
                default=None,
                hidden=True,
            )
        )


class Command(click.Command):
    """A command that takes the beginning of an option of Gunicorn's for the option, as there, if it
    is that of one only, and -w=4 for -w 4. Ctrl-C, until the master hears signals, is told in a
    line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """With whole names."""
        known = {option for param in self.params for option in (*param.opts, *param.secondary_opts)}
        known |= {"--", *ctx.help_option_names}
        return super().parse_args(ctx, [_whole(word, known) for word in args])

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            tell("\nforkserve: interrupted, and nothing was started")
            ctx.exit(EXIT_INTERRUPTED)


def _whole(word: str, known: set[str]) -> str:
    name, equals, value = word.partition("=")
    if value and len(name) == 2 and name in known:
        return f"{name}{value}"
    if not name.startswith("--") or name in known:
        return word
    options = {option for entry in TABLE for option in entry.options if option.startswith(name)}
    return f"{options.pop()}{equals}{value}" if len(options) == 1 else word


def read_line(given: Mapping[str, Any], config: str | None) -> Line:
    """The command line as click has taken it apart: parameter -> text, texts, or a bool."""
    line = Line(config=config)
    _take(line, given, "")
    return line


def read_surroundings(command: click.Command, line: Line, environ: Mapping[str, str]) -> Line:
    """``line`` on top of what Gunicorn would read besides: GUNICORN_CMD_ARGS, FORWARDED_ALLOW_IPS
    and ./gunicorn.conf.py."""
    below = Line()
    try:
        words = shlex.split(environ.get(VARIABLE, ""))
        context = command.make_context(VARIABLE, words)
    except (ValueError, click.UsageError) as error:
        text = error.format_message() if isinstance(error, click.UsageError) else str(error)
        below.problems.append(f"{VARIABLE}: {text}")
    else:
        words = context.params.pop("arguments")  # an application in it is not looked at there
        unknown = [word for word in words if word.startswith("-") and word != "-"]
        below.problems += [f"{VARIABLE}: there is no option {word}" for word in unknown]
        below.config = context.params.pop("config")
        for name in ("check_config", "print_config", "gunicorn_env"):
            context.params.pop(name)
        _take(below, context.params, f"{VARIABLE} ")
    if environ.get(_PROXIES):
        below.defaults["forwarded_allow_ips"] = (environ[_PROXIES].split(","), _PROXIES)
    return Line(
        {**below.values, **line.values},
        below.defaults,
        line.config or below.config or (_FILE if os.path.exists(_FILE) else None),
        below.notes + line.notes,
        below.problems + line.problems,
    )


def not_read(line: Line, environ: Mapping[str, str]) -> list[str]:
    """Notes of what Gunicorn would have read, and we were not asked to."""
    notes = []
    if environ.get(VARIABLE):
        notes.append(f"{VARIABLE} is set, and is not read: --gunicorn-env has it read")
    if environ.get(_PROXIES):
        notes.append(f"{_PROXIES} is set, and is not read: --gunicorn-env has it read")
    if line.config is None and os.path.exists(_FILE):
        notes.append(f"{_FILE} is here, and is not read: name it with -c, or use --gunicorn-env")
    return notes


def not_used(loaded: Loaded, environ: Mapping[str, str]) -> list[str]:
    """Notes of what Gunicorn would make of the application's environment."""
    own = any(it.startswith(f"{_PREFIX}=/") for it in loaded.settings.env)
    if not own and not environ.get(_PREFIX):
        return []
    origin = loaded.origins["env"] if own else "the environment"
    return [
        f"{_PREFIX} ({origin}) is not used here, and PATH_INFO is the whole path: let the proxy "
        "cut the prefix off, or set SCRIPT_NAME in a middleware of the application"
    ]


def origin_of(name: str, given: object) -> str:
    """How a message calls the place on the command line."""
    option = declarations()[name][0].options[-1]
    return off(option) if given is False else option


def off(option: str) -> str:
    """The option that switches off what ``option``, a flag, switches on."""
    return f"--no-{option.removeprefix('--')}"


def _take(line: Line, given: Mapping[str, Any], where: str) -> None:
    theirs: Given = {}
    for name, text in given.items():
        if text is None or text == ():
            continue
        if name.startswith(_PARAMETER):
            entry = ENTRIES[name.removeprefix(_PARAMETER)]
            theirs[entry.name] = (text, where + _spelling(entry))
        else:
            raw = list(text) if isinstance(text, tuple) else text
            line.values[name] = (in_our_form(name, raw), where + origin_of(name, text))
    result = translate(theirs)
    line.values.update(result.values)
    line.notes += result.notes
    line.problems += result.problems
    if line.values.get("max_requests", ("", ""))[0] == "none":
        line.values.pop("max_requests_jitter", None)  # it has nothing to be added to


def _spelling(entry: Entry) -> str:
    return entry.options[-1]
