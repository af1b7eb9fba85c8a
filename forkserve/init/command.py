"""``forkserve init``: look, write, and say what was found, what was written and what comes next."""

import contextlib
import grp
import os
import pwd
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping

import click

from forkserve.errors import EXIT_FAILED, ForkserveError, SettingsError
from forkserve.init.look import Found, look
from forkserve.init.render import CONFIG, DOCKERFILE, Place, docker_commands, files
from forkserve.init.verify import systemd_version, verify
from forkserve.settings.kinds import APPLICATION

# Whom distributions have the web's files served by; the first that this machine knows.
_USERS = ("www-data", "www", "http", "nginx", "apache")

# What systemd and nginx take as it is, without quotes.
_PLAIN = re.compile(r"[\w./+@-]+")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("target", metavar="[MODULE:CALLABLE]", required=False)
@click.option(
    "--dir", "directory", metavar="DIR", default=".",
    help="The directory of the application, where the files are written, too. [.]",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.pass_context
def init(context: click.Context, target: str | None, directory: str, force: bool) -> None:
    """Write forkserve.toml, a systemd unit, an nginx site and a Dockerfile.

    They are for the application MODULE:CALLABLE, or for the one that is seen in the directory:
    Django by its manage.py, Flask by `app = Flask(...)` or a factory. Nothing of it is executed.
    (An application whose module is called init is served by `forkserve init:app`.)
    """
    try:
        if target is not None:
            _understand(target)
        place, found = _look(_absolute(directory), target)
        texts = files(found, place)
        with tempfile.TemporaryDirectory(prefix="forkserve-init-") as trial:
            for name, text in texts.items():
                _write(os.path.join(trial, name), text)
            checked = verify(trial, place)
        click.echo(f"found: {found.framework}: {found.app} ({found.why})")
        written = [
            name for name, text in texts.items() if _place(place, name, text, checked[name], force)
        ]
    except ForkserveError as error:
        problems = error.problems if isinstance(error, SettingsError) else [error.report()]
        for problem in problems:
            click.echo(f"forkserve init: {problem}", err=True)
        context.exit(error.exit_status)
    except OSError as error:
        if error.filename is None:  # nobody reads what is said
            raise
        click.echo(
            f"forkserve init: {error.filename} cannot be written: {error.strerror}. User "
            f"{os.geteuid()} must be able to write in {directory} (--dir)",
            err=True,
        )
        context.exit(EXIT_FAILED)
    if not written:
        click.echo("forkserve init: nothing was written", err=True)
        context.exit(EXIT_FAILED)
    _tell(found, place)


def _understand(target: str) -> None:
    try:
        APPLICATION.read(target)
    except ValueError as error:
        raise SettingsError([f"{target!r} {error}"]) from None


def _absolute(directory: str) -> str:
    try:
        os.getcwd()
    except OSError:
        raise ForkserveError(
            "the working directory is gone: somebody has removed it, or put another in its place. "
            "Enter it anew"
        ) from None
    return os.path.abspath(directory)


def _look(directory: str, target: str | None) -> tuple[Place, Found]:
    found = look(directory, target)
    first = _programs(directory)
    root = os.path.join(directory, found.root)  # which the Dockerfile names
    for path in (directory, root, first, *(found.static or ())):
        if _PLAIN.fullmatch(path) is None:
            raise ForkserveError(
                f"the path {path!r} has characters that systemd and nginx would read otherwise: "
                "put the application under one of letters, digits and . _ - + @ alone"
            )
    name = re.sub("[^a-z0-9]+", "-", os.path.basename(directory).lower()).strip("-") or "app"
    user, group = _user()
    return Place(
        directory=directory,
        name=name,
        path=":".join(dict.fromkeys([first, "/usr/local/bin", "/usr/bin", "/bin"])),
        user=user,
        group=group,
        systemd=systemd_version(),
        has_requirements=os.path.isfile(os.path.join(directory, "requirements.txt")),
        has_project=os.path.isfile(os.path.join(directory, "pyproject.toml")),
    ), found


def _user() -> tuple[str, str]:
    """The user of the service, and its group."""
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return name, grp.getgrgid(pwd.getpwnam(name).pw_gid).gr_name
    return "nobody", "nogroup"


def _programs(directory: str) -> str:
    """Where forkserve is for the service: in a virtual environment beside the application, or in
    the one that this runs in."""
    for name in (".venv", "venv", "env"):
        if os.path.isfile(os.path.join(directory, name, "pyvenv.cfg")):
            return os.path.join(directory, name, "bin")
    own = os.path.dirname(sys.executable)
    if not os.path.exists(os.path.join(own, "forkserve")):
        own = os.path.dirname(shutil.which("forkserve") or sys.executable)
    return os.path.abspath(own)


def _mentions_forkserve(directory: str) -> bool:
    with open(
        os.path.join(directory, "requirements.txt"), encoding="utf-8", errors="replace"
    ) as file:
        return any(line.strip().lower().startswith("forkserve") for line in file)


def _closed_to(place: Place) -> str | None:
    """A directory on the way to the application that its user may not enter."""
    with contextlib.suppress(OSError, KeyError):
        entry = pwd.getpwnam(place.user)
        parts = place.directory.split(os.sep)
        for length in range(2, len(parts) + 1):
            path = os.sep.join(parts[:length])
            status = os.stat(path)
            wanted = stat.S_IXOTH
            if status.st_gid == entry.pw_gid:
                wanted = stat.S_IXGRP
            if status.st_uid == entry.pw_uid:
                wanted = stat.S_IXUSR
            if not status.st_mode & wanted:
                return path
    return None


def _place(place: Place, name: str, text: str, checked: str, force: bool) -> bool:
    """Write one file where it belongs. False, and a word, if there is one already."""
    path = os.path.join(place.directory, name)
    if os.path.lexists(path) and not force:
        click.echo(f"kept:  {name} is there already; --force writes over it")
        return False
    beside = f"{path}.{os.getpid()}.new"
    try:
        _write(beside, text)
        os.replace(beside, path)  # in one step; a link is replaced, and not followed
    except OSError:
        if os.path.lexists(beside):
            os.unlink(beside)
        raise
    click.echo(f"wrote: {name} ({checked})")
    return True


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)


def _tell(found: Found, place: Place) -> None:
    """What to mind, and what comes next."""
    hints = [*found.hints]
    if place.has_requirements and not _mentions_forkserve(place.directory):
        hints.append(
            "requirements.txt does not name forkserve, and the Dockerfile installs from it"
        )
    if found.framework == "Django" and found.static is not None:
        hints.append(
            "nginx serves the static files: python manage.py collectstatic, at each deploy"
        )
    closed = _closed_to(place)
    if closed is not None:
        hints.append(
            f"user {place.user}, of the service, may not enter {closed}: move the application, or "
            "put another User= in the unit"
        )
    if place.directory.startswith("/tmp/"):
        hints.append("the service has a /tmp of its own, so the application must move elsewhere")
    if hints:
        click.echo("\nMind:")
        for hint in hints:
            click.echo(f"  * {hint}")
    there = "" if place.directory == os.getcwd() else f"cd {place.directory} && "
    steps: Mapping[str, list[str]] = {
        "Does it load? Then try it:": [
            f"{there}forkserve --check-config -c {CONFIG}",
            f"{there}forkserve -c {CONFIG}",
        ],
        "As a service, behind nginx:": [
            f"cp {place.service} /etc/systemd/system/ && systemctl daemon-reload",
            f"systemctl enable --now {place.name}",
            f"cp {place.site} /etc/nginx/conf.d/{place.name}.conf && nginx -t && nginx -s reload",
        ],
        f"Or in a container ({DOCKERFILE}):": [line.strip() for line in docker_commands(place)],
    }
    click.echo("\nNext:")
    for what, commands in steps.items():
        click.echo(f"  {what}")
        for command in commands:
            click.echo(f"    {command}")
