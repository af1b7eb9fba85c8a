"""The command ``forkserve``: from options to a running master.

It gives the master what its children run (``entrances``), so that neither has to know the other.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import click

from forkserve import __version__
from forkserve.check import check
from forkserve.develop.board import Board
from forkserve.entrances import enter_status, enter_template, enter_watcher, enter_worker
from forkserve.errors import EXIT_OK, ForkserveError, SettingsError
from forkserve.gunicorn_line import (
    Command,
    add_options,
    not_read,
    not_used,
    off,
    read_line,
    read_surroundings,
)
from forkserve.loading import Sources
from forkserve.master.generation import load_log_config, load_tls, unfit_certificate
from forkserve.master.lookout import Lookout
from forkserve.master.shell import Shell
from forkserve.master.spawn import Entrances
from forkserve.master.succession import Succession
from forkserve.net.address import FdAddress
from forkserve.net.systemd import Notifier, take_listen_fds, take_watchdog
from forkserve.ops.access import compile_format
from forkserve.ops.logs import LogFile, error_log
from forkserve.proc.command import command_of, names_interpreter
from forkserve.proc.descriptors import ensure_standard_streams, tell
from forkserve.proc.signals import raise_at_ctrl_c
from forkserve.settings import Loaded, Settings, declarations, reference
from forkserve.settings.kinds import FLAG
from forkserve.settings.sources import suggestion
from forkserve.worker.debug import debug_warning
from forkserve.worker.handoff import HandoffQueue
from forkserve.worker.process import load as load_for_worker
from forkserve.worker.process import prepare_process

# What the settings themselves cannot know to be wrong.
_CHECKS: dict[str, Callable[[Any], object]] = {"access_log_format": compile_format}


def main() -> NoReturn:
    """The command, once all of this is imported."""
    raise_at_ctrl_c()
    ensure_standard_streams()
    if sys.argv[1:2] == ["init"]:  # an application of that name is init:app
        from forkserve.init.command import init  # no server needs it

        sys.exit(init(sys.argv[2:], prog_name="forkserve init"))
    sys.exit(_command(prog_name="forkserve"))


@click.command(
    cls=Command,
    options_metavar="[OPTIONS] MODULE:CALLABLE",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "ignore_unknown_options": True,  # they are problems like the others, all told at once
    },
    epilog="Every option is also a key of the configuration file, and a variable FORKSERVE_NAME. "
    "`forkserve init` writes such a file, and a systemd unit, an nginx site and a Dockerfile.",
)
@click.argument("arguments", metavar="", nargs=-1, type=click.UNPROCESSED)
@click.option("-c", "--config", metavar="FILE", help="Configuration file: TOML, or Gunicorn's.")
@click.option(
    "--gunicorn-env",
    is_flag=True,
    help="Read what Gunicorn reads: GUNICORN_CMD_ARGS, FORWARDED_ALLOW_IPS, ./gunicorn.conf.py.",
)
@click.option("--check-config", is_flag=True, help="Check settings and application, and exit.")
@click.option("--print-config", is_flag=True, help="Print each setting with its origin, and exit.")
@click.version_option(__version__, "-v", "--version", message="forkserve %(version)s")
@click.pass_context
def _command(
    context: click.Context,
    /,
    arguments: tuple[str, ...],
    config: str | None,
    gunicorn_env: bool,
    check_config: bool,
    print_config: bool,
    **given: str | bool | tuple[str, ...] | None,
) -> None:
    """Serve the WSGI application MODULE:CALLABLE.

    MODULE alone stands for its `application`, or else its `app`; a call like MODULE:factory() is
    made. SIGHUP reloads settings and application, SIGTERM and Ctrl-C stop.
    """
    succession = Succession(
        command_of(sys.orig_argv, sys.executable, os.environ, names_interpreter(sys.orig_argv))
    )
    app, problems = _read_arguments(arguments)
    line = read_line(given, config)
    if gunicorn_env:
        line = read_surroundings(context.command, line, os.environ)
    else:
        line.notes += not_read(line, os.environ)
    if app is not None:
        line.values["app"] = (app, "command line")
    line.problems[:0] = problems
    loaded = None
    try:
        succession.adopt_from(os.environ)
        sources = Sources(line, dict(os.environ), _CHECKS)
        loaded = sources.load_first()
        status = EXIT_OK
        if not print_config:
            notes = line.notes + list(loaded.notes) + not_used(loaded, os.environ)
            _tell(notes, loaded.settings)
        if print_config:
            click.echo(reference.print_config(loaded).encode("utf-8", "backslashreplace"))
        elif check_config:
            _check(loaded.settings)
        else:
            status = _serve(loaded, sources, succession, line.config)
    except ForkserveError as error:
        explain = str if loaded is None else loaded.settings.explained
        _complain(error, explain)
        succession.fail(error.report(explain))
        status = error.exit_status
    context.exit(status)


def _tell(notes: list[str], settings: Settings) -> None:
    """Say what was accepted, and does nothing."""
    if settings.log_level in ("debug", "info"):
        for note in notes:
            tell(f"forkserve: {note}")


# What an option means without its value, where Gunicorn has it so.
_OPTIONAL: dict[str, Any] = {"proxy_protocol": {"is_flag": False, "flag_value": "on"}}


def _add_settings(command: click.Command) -> None:
    """An option for each setting. Click hands on what was written; the settings read it."""
    for name, (declaration, default) in declarations().items():
        kind = declaration.kind
        shown = " ".join(map(kind.show, default)) if kind.many else kind.show(default)
        if not declaration.options:
            continue
        options = list(declaration.options)
        if kind is FLAG:
            options[-1] += f"/{off(options[-1])}"
        command.params.append(
            click.Option(
                [*options, name],
                metavar=None if kind is FLAG else kind.sort,
                default=None,
                multiple=kind.many,
                **_OPTIONAL.get(name, {}),
                help=f"{declaration.help} [{shown}]" if shown else declaration.help,
            )
        )


_add_settings(_command)
add_options(_command)


def _read_arguments(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The application, and what is wrong: ``arguments`` is all that is no option we know."""
    apps: list[str] = []
    problems: list[str] = []
    behind_unknown = False
    for text in arguments:
        if text.startswith("-") and not (behind_unknown and text == "-"):
            option = text.partition("=")[0]
            name = option.lstrip("-")
            problems.append(f"{option}: there is no such option{suggestion(name, _as_option)}")
        elif not behind_unknown:  # else it may be the value of that
            apps.append(text)
        behind_unknown = text.startswith("-") and text != "-"
    if len(apps) > 1:
        problems.append(f"command line: one application is served, not {' and '.join(apps)}")
    return (apps[0] if apps else None), problems


def _as_option(name: str) -> str:
    return (declarations()[name][0].options or (f"{name} in the configuration file",))[-1]


def _complain(error: ForkserveError, explain: Callable[[str], str]) -> None:
    problems = error.problems if isinstance(error, SettingsError) else [error.report(explain)]
    for problem in problems:
        tell(f"forkserve: {problem}")
    if isinstance(error, SettingsError):
        tell("forkserve: nothing was started. See forkserve --help")


def _serve(loaded: Loaded, sources: Sources, succession: Succession, config: str | None) -> int:
    """Be the master, until told to stop."""
    settings = loaded.settings
    if not succession.is_heir:
        succession.inherited = _inherited(loaded.origins["bind"])
        succession.notifier = Notifier.from_environ(os.environ)
        succession.watchdog = take_watchdog(os.environ, os.getpid())
    queue = _queue_of(succession)
    board, lookout = None, Lookout()
    if settings.reload:
        board = Board(int.from_bytes(os.urandom(5)))
        lookout = Lookout(partial(enter_watcher, queue, board, config), board)
    entrances = Entrances(
        partial(enter_worker, queue, board),
        partial(enter_template, queue, board),
        enter_status,
        sources.rehearsal,
    )
    status = Shell(settings, sources.read, entrances, succession, lookout).run()
    if status != EXIT_OK and settings.error_logfile != "-":
        tell(f"forkserve: it has failed; the log says why: {settings.error_logfile}")
    return status


def _queue_of(succession: Succession) -> HandoffQueue | None:
    """The hand-off queue that all workers share, those of the master before this one too."""
    if succession.queue is None:
        queue = HandoffQueue.make()
    else:
        try:
            queue = HandoffQueue.adopt(*succession.queue)
        except (OSError, ValueError) as error:
            raise ForkserveError(f"the hand-off queue cannot be taken over: {error}") from None
    succession.queue = None if queue is None else queue.fds()
    return queue


def _inherited(origin_of_bind: str) -> list[FdAddress]:
    """The sockets that the service manager hands in."""
    for_pid, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    inherited = take_listen_fds(os.environ, os.getpid())
    if inherited and origin_of_bind not in ("default", "PORT"):
        tell(
            f"forkserve: the sockets of LISTEN_FDS ({len(inherited)}) take the place of bind "
            f"({origin_of_bind})"
        )
    elif count and not inherited:
        tell(
            f"forkserve: LISTEN_FDS={count} is ignored, because LISTEN_PID is {for_pid} and this "
            f"is process {os.getpid()}: start forkserve without a shell in between, or by exec"
        )
    return inherited


def _check(settings: Settings) -> None:
    """Say whether the application loads. Raises ForkserveError."""

    def load() -> None:
        prepare_process(settings)
        log = error_log(LogFile("-", 2), settings.log_level, "check")
        app, _ = load_for_worker(settings, log, log_config, 0, None, False)
        warning = debug_warning(app)
        if warning is not None and not settings.debugger:
            tell(f"forkserve: {warning}")

    load_tls(settings)
    log_config = load_log_config(settings)
    unfit = unfit_certificate(settings)
    check(settings, load)
    if unfit is not None:
        tell(f"forkserve: {settings.explained(unfit)}")
    click.echo(f"the settings are sound, and the application {settings.app} loads")
