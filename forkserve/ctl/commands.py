"""The command ``forkservectl``: each subcommand asks the master, and shows the answer."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from forkserve import __version__
from forkserve.ctl import tables
from forkserve.ctl.client import (
    EXIT_NO_SERVER,
    EXIT_REFUSED,
    EXIT_USAGE,
    VARIABLE,
    NoServer,
    Refused,
    Server,
    find_socket,
)
from forkserve.errors import EXIT_INTERRUPTED
from forkserve.proc.signals import raise_at_ctrl_c

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main() -> NoReturn:
    """The command, once all of this is imported."""
    raise_at_ctrl_c()
    try:
        _command(prog_name="forkservectl")
    except NoServer as error:
        click.echo(f"forkservectl: {error}", err=True)
        sys.exit(EXIT_NO_SERVER)
    except Refused as error:
        click.echo(f"forkservectl: {tables.readable(str(error))}", err=True)
        sys.exit(EXIT_REFUSED)
    sys.exit(0)


class _Group(click.Group):
    """Says what became of an answer that its reader does not take. (Nothing else here is an
    OSError.) Click itself would call the first a failure, and show a traceback of others; and whom
    Ctrl-C interrupts it would have told that the server has refused."""

    def invoke(self, ctx: click.Context) -> Any:
        """The subcommand."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            text = "interrupted; what the server has been told it does all the same"
            click.echo(f"\nforkservectl: {text}", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left is written at the end
            if isinstance(error, BrokenPipeError):  # `forkservectl ps | head`
                return None
            click.echo(f"forkservectl: the answer cannot be written: {error.strerror}", err=True)
            ctx.exit(EXIT_REFUSED)


@click.group(
    cls=_Group,
    context_settings=_CONTEXT,
    epilog="Exit status: 0 done, 1 refused, 2 wrong usage, 3 no server answers, 130 interrupted.",
)
@click.option(
    "-s", "--socket", "path", metavar="PATH", envvar=VARIABLE, help="Control socket of the server."
)
@click.option("-p", "--pid-file", metavar="FILE", help="Pid file of the server, to find it by.")
@click.version_option(__version__, message="forkservectl %(version)s")
@click.pass_context
def _command(context: click.Context, path: str | None, pid_file: str | None) -> None:
    """See what a running forkserve does, and tell it what to do.

    Without --socket and --pid-file it looks for forkserve.ctl where a server puts it:
    $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR, /run/forkserve.
    """
    # Found by the subcommand, so that its --help needs no server.
    context.obj = lambda: Server(find_socket(path, pid_file, os.environ))


def _find(context: click.Context) -> Server:
    find: Callable[[], Server] = context.obj
    return find()


def _columns() -> int | None:
    """Of the terminal, None if what is shown goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _show(text: str) -> None:
    click.echo(tables.readable(text))


def _show_json(answer: dict[str, Any]) -> None:
    click.echo(json.dumps(answer, indent=2))


_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


@_command.command()
@_JSON
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """What the server and each of its workers do."""
    answer = _find(context).ask("status")
    if as_json:
        _show_json(answer)
    else:
        _show(tables.status(answer, _columns()))


@_command.command()
@_JSON
@click.pass_context
def ps(context: click.Context, as_json: bool) -> None:
    """The requests that run now, the longest first."""
    calls = tables.running(_find(context).ask("ps"))
    if as_json:
        _show_json({"ok": True, "requests": calls})
    else:
        _show(tables.requests(calls, _columns()))


@_command.command()
@click.option("--interval", default=1.0, type=click.FloatRange(0.1, 60.0), show_default=True,
              help="Seconds between two looks.")  # fmt: skip
@click.option("--once", is_flag=True, help="Draw once, and exit.")
@click.pass_context
def top(context: click.Context, interval: float, once: bool) -> None:
    """Watch the server. Keys: r reload, + and - scale, q quit.

    Needs rich: pip install 'forkserve[top]'.
    """
    try:
        from forkserve.ctl.top import watch
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "rich":
            raise
        click.echo(
            "forkservectl: top draws with rich, which is not installed: "
            "pip install 'forkserve[top]'. `forkservectl status` needs nothing",
            err=True,
        )
        context.exit(EXIT_USAGE)
    watch(_find(context), interval, once)


@_command.command()
@click.argument("slot", type=click.IntRange(0))
@click.pass_context
def stack(context: click.Context, slot: int) -> None:
    """The Python stack of each thread of the worker in SLOT, which goes on meanwhile."""
    _show(tables.stack(_find(context).ask("stack", slot=slot)))


def _report(answer: dict[str, Any]) -> None:
    _show(answer["text"])


@_command.command()
@click.pass_context
def reload(context: click.Context) -> None:
    """Reload settings and application, and wait until that is done, or refused."""
    _report(_find(context).ask("reload"))


@_command.command()
@click.pass_context
def upgrade(context: click.Context) -> None:
    """Start a new master, and wait until it serves, or is refused."""
    _report(_find(context).ask("upgrade"))


@_command.command(context_settings={"ignore_unknown_options": True})  # -1 is none
@click.argument("workers", metavar="N|+N|-N")
@click.pass_context
def scale(context: click.Context, workers: str) -> None:
    """Have N workers, or so many more or fewer, until the next reload."""
    if not workers.removeprefix("+").removeprefix("-").isdecimal() or len(workers) > 6:
        raise click.BadParameter(f"{workers!r} is not like 4, +1 or -1", param_hint="N|+N|-N")
    _report(_find(context).ask("scale", workers=workers))


@_command.command()
@click.argument("slot", type=click.IntRange(0))
@click.pass_context
def retire(context: click.Context, slot: int) -> None:
    """Replace the worker in SLOT: its successor is ready before it leaves."""
    _report(_find(context).ask("retire", slot=slot))


@_command.command("reopen-logs")
@click.pass_context
def reopen_logs(context: click.Context) -> None:
    """Open the log files anew, after they were rotated."""
    _report(_find(context).ask("reopen-logs"))


@_command.command()
@_JSON
@click.pass_context
def config(context: click.Context, as_json: bool) -> None:
    """The settings in force, and where each comes from."""
    answer = _find(context).ask("config")
    if as_json:
        _show_json(answer)
    else:
        _show(tables.config(answer))


@_command.command()
@click.option("--now", is_flag=True, help="Cut off running requests.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it has ended.")
@click.pass_context
def stop(context: click.Context, now: bool, no_wait: bool) -> None:
    """Stop the server, and wait until it has ended."""
    answer = _find(context).ask("stop", to_the_end=not no_wait, now=now)
    _show(answer["text"] if no_wait else "stopped")
