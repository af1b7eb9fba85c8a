"""The command ``forkserve``: from options to a running master.

The only module that knows everyone: it gives the master the worker's entry point, so that neither
has to know the other.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from forkserve import __version__
from forkserve.apploader import load_application
from forkserve.errors import EXIT_FAILED, EXIT_OK, ApplicationError, ForkserveError, SettingsError
from forkserve.master.shell import Shell
from forkserve.master.spawn import Seat
from forkserve.net.systemd import Notifier, take_listen_fds
from forkserve.ops.access import compile_format
from forkserve.proc.descriptors import ensure_standard_streams
from forkserve.settings import Loaded, Settings, declarations, load_settings, reference
from forkserve.worker.main import describe, prepare_import, run_worker

# What the settings themselves cannot know to be wrong.
_CHECKS: dict[str, Callable[[Any], object]] = {"access_logformat": compile_format}


def main() -> NoReturn:
    """The entry point of the console script, and of ``python -m forkserve``."""
    ensure_standard_streams()
    sys.exit(_command(prog_name="forkserve"))


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every option is also a key of the configuration file, and a variable FORKSERVE_NAME.",
)
@click.argument("app", metavar="MODULE:CALLABLE", required=False)
@click.option("-c", "--config", metavar="FILE", help="Configuration file (TOML).")
@click.option("--check-config", is_flag=True, help="Check settings and application, and exit.")
@click.option("--print-config", is_flag=True, help="Print each setting with its origin, and exit.")
@click.version_option(__version__, message="forkserve %(version)s")
@click.pass_context
def _command(
    context: click.Context,
    /,
    config: str | None,
    check_config: bool,
    print_config: bool,
    **given: str | tuple[str, ...] | None,
) -> None:
    """Serve the WSGI application MODULE:CALLABLE.

    MODULE alone stands for its `application`, or else its `app`; a call like MODULE:factory() is
    made. SIGHUP reloads settings and application, SIGTERM and Ctrl-C stop.
    """
    environ = dict(os.environ)
    command_line = {
        name: (list(text) if isinstance(text, tuple) else text, _origin(name))
        for name, text in given.items()
        if text
    }

    def load() -> Loaded:
        return load_settings(config, environ, command_line, _CHECKS)

    try:
        loaded = load()
        if print_config:
            click.echo(reference.print_config(loaded))
            status = EXIT_OK
        elif check_config:
            status = _check_application(loaded.settings)
        else:
            status = _serve(loaded.settings, lambda: load().settings)
    except ForkserveError as error:
        _complain(error)
        status = error.exit_status
    context.exit(status)


def _add_settings(command: click.Command) -> None:
    """An option for each setting. Click hands on what was written; the settings read it."""
    for name, (declaration, _) in declarations().items():
        if declaration.options:
            command.params.append(
                click.Option(
                    [*declaration.options, name],
                    metavar=declaration.kind.sort,
                    multiple=declaration.kind.many,
                    help=declaration.help,
                )
            )


_add_settings(_command)


def _origin(name: str) -> str:
    """How a message calls the place on the command line."""
    declaration, _ = declarations()[name]
    return declaration.options[-1] if declaration.options else "command line"


def _complain(error: ForkserveError) -> None:
    problems = error.problems if isinstance(error, SettingsError) else [str(error)]
    for problem in problems:
        click.echo(f"forkserve: {problem}", err=True)
    if isinstance(error, SettingsError):
        click.echo("forkserve: nothing was started. See forkserve --help", err=True)


def _serve(settings: Settings, read_settings: Callable[[], Settings]) -> int:
    """Be the master, until told to stop."""
    inherited = take_listen_fds(os.environ, os.getpid())
    notifier = Notifier.from_environ(os.environ)
    return Shell(settings, read_settings, _enter_worker, inherited, notifier).run()


def _enter_worker(seat: Seat) -> int:
    generation = seat.generation
    return run_worker(
        generation.settings,
        slot=seat.slot,
        generation=generation.number,
        row=seat.row,
        listeners=generation.listeners,
        channel=seat.channel,
        error_file=generation.error_file,
        access_file=generation.access_file,
        master=seat.master,
    )


def _check_application(settings: Settings) -> int:
    """Load the application in a child, which it can do no harm to. Returns the exit status."""
    pid = os.fork()
    if pid == 0:
        status = EXIT_FAILED
        try:
            prepare_import(settings)
            load_application(settings.app)
            click.echo(f"the settings are sound, and the application {settings.app} loads")
            status = EXIT_OK
        except ForkserveError as error:
            click.echo(f"forkserve: {describe(error)}", err=True)
            status = error.exit_status
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, wait_status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(wait_status)
    if code < 0:
        raise ApplicationError(f"the application ended its process with signal {-code}")
    return code
