"""Whether the files are what those read that they are for: forkserve, systemd, nginx.

In a directory of their own, before anything is written where the operator wants it. A program that
is not on this machine is named as such, and is no reason to stop.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

from forkserve.errors import ForkserveError
from forkserve.init.render import CONFIG, DOCKERFILE, Place
from forkserve.settings import load_settings

_SECONDS = 30.0
_DIRECTORIES = "/usr/sbin:/usr/local/sbin:/sbin"  # where programs for root are
_NEEDED = ("USER ", "EXPOSE ", "HEALTHCHECK ")


def verify(directory: str, place: Place) -> dict[str, str]:
    """file -> by what it was checked. ``directory`` holds the files, and nothing else.

    Raises ForkserveError: one of them is wrong, which is a fault of ours or of the names in it.
    """
    return {
        CONFIG: _config(directory),
        place.service: _unit(directory, place),
        place.site: _site(directory, place),
        DOCKERFILE: _dockerfile(directory),
    }


def systemd_version() -> int:
    """That of this machine; a recent one, if it has none."""
    program = _program("systemd-analyze")
    words = _run([program, "--version"]).stdout.split() if program else []
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 253


def _config(directory: str) -> str:
    load_settings(os.path.join(directory, CONFIG), {}, {}, {})
    return "read as forkserve reads it"


def _unit(directory: str, place: Place) -> str:
    program = _program("systemd-analyze")
    if program is None:
        return "not checked: there is no systemd-analyze here"
    path = os.path.join(directory, place.service)
    done = _run([program, "verify", "--man=no", path])
    # It speaks of other units of this machine too.
    said = [line for line in done.stderr.splitlines() if place.service in line]
    if done.returncode != 0 and said:
        raise _wrong(place.service, "systemd-analyze", said)
    return "systemd-analyze verify"


def _site(directory: str, place: Place) -> str:
    program = _program("nginx")
    if program is None:
        return "not checked: there is no nginx here"
    with open(os.path.join(directory, place.site), encoding="utf-8") as file:
        site = file.read()
    # nginx binds what it tests. Nobody's port is touched, and no right is needed. Its names are
    # seen from the directory, whose own may be too long for a socket, or have letters that end a
    # word of its configuration.
    site = re.sub(r"\blisten 80;", "listen unix:nginx.sock;", site)
    whole = os.path.join(directory, "nginx.conf")
    with open(whole, "w", encoding="utf-8") as file:
        file.write(
            "pid nginx.pid;\nevents {}\nhttp {\naccess_log off;\n"
            + "".join(
                f"{kind}_temp_path {kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + f"{site}}}\n"
        )
    done = _run([program, "-t", "-q", "-e", "stderr", "-p", directory, "-c", whole], directory)
    if done.returncode != 0:
        raise _wrong(place.site, "nginx", done.stderr.splitlines())
    return "nginx -t"


def _dockerfile(directory: str) -> str:
    with open(os.path.join(directory, DOCKERFILE), encoding="utf-8") as file:
        text = file.read()
    lines = text.splitlines()
    missing = [word for word in _NEEDED if not any(line.startswith(word) for line in lines)]
    command = json.loads(lines[-1].removeprefix("CMD "))
    done = _run(
        [sys.executable, "-P", "-m", "forkserve", *command[1:], "--print-config"], directory
    )
    if missing or done.returncode != 0:
        raise _wrong(DOCKERFILE, "forkserve", [*missing, *done.stderr.splitlines()])
    return "forkserve takes its command line"


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_DIRECTORIES)


def _run(command: Sequence[str], directory: str | None = None) -> subprocess.CompletedProcess[str]:
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("FORKSERVE_") and name not in ("PORT", "WEB_CONCURRENCY")
    }
    try:
        return subprocess.run(
            command, cwd=directory, env=kept, capture_output=True, text=True, timeout=_SECONDS,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ForkserveError(
            f"{command[0]} cannot be run, which checks the files: {error}"
        ) from None


def _wrong(name: str, program: str, said: Sequence[str]) -> ForkserveError:
    words = "\n".join(said)
    return ForkserveError(
        f"nothing was written: {program} does not take the {name} that was to be. That is a fault "
        f"of forkserve init, or of a name in it. It says:\n{words}"
    )
