"""The texts of the four files, from the templates of this package.

``conf/`` and ``systemd/`` of the repository are the same templates with other values: see
``examples``.
"""

import json
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from forkserve.init.look import Found
from forkserve.settings import declarations
from forkserve.settings.reference import toml_value
from forkserve.settings.sources import PREFIX

_PLACE = re.compile(r"\{\{(\w+)\}\}")
_WIDTH = 98

CONFIG = "forkserve.toml"
DOCKERFILE = "Dockerfile"

# Before systemd 253 there is no Type=notify-reload.
NOTIFY_RELOAD = """\
# The master says READY=1 when its first worker is ready, and not before, and again when a reload
# (by SIGHUP) is done or refused. Before systemd 253: Type=notify, and
# ExecReload=/bin/kill -HUP $MAINPID
Type=notify-reload"""
_NOTIFY = """\
# The master says READY=1 when its first worker is ready, and not before. From systemd 253 on write
# Type=notify-reload in place of these two, and `systemctl reload` tells whether it was refused.
Type=notify
ExecReload=/bin/kill -HUP $MAINPID"""

PROTECT_HOME = "ProtectHome=yes"
_PROTECT_HOME_BUT_READ = """\
# The application is in a home directory; elsewhere (/srv), yes would be better.
ProtectHome=read-only"""

# The settings that a deployment decides; all others are in the reference. None: at its default,
# commented out.
_CHOSEN: Mapping[str, Any] = {
    "app": "", "chdir": None, "bind": ["127.0.0.1:8000"], "forwarded_allow_ips": None,
    "workers": "auto", "threads": None, "preload": None, "timeout": None,
    "graceful_timeout": None, "keep_alive": None, "max_body": None, "access_logfile": None,
    "log_level": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the application stands. ``name`` is that of the service; ``path`` the PATH with
    forkserve on it; ``has_requirements`` and ``has_project``: requirements.txt, pyproject.toml."""

    directory: str
    name: str
    path: str
    user: str
    group: str
    systemd: int
    has_requirements: bool
    has_project: bool

    @property
    def service(self) -> str:
        return f"{self.name}.service"

    @property
    def site(self) -> str:
        return f"{self.name}.nginx.conf"


def files(found: Found, place: Place) -> dict[str, str]:
    """file name -> text of all four."""
    return {
        CONFIG: config_of(found),
        place.service: unit_of(place),
        place.site: site_of(found, place),
        DOCKERFILE: dockerfile_of(found, place),
    }


def fill(template: str, values: Mapping[str, str]) -> str:
    """The text of a template. A value of several lines is indented like its place; a line that
    holds nothing but an empty value is left out, and so is the second of two empty lines."""
    text = resources.files("forkserve.init").joinpath(f"templates/{template}.template").read_text()
    lines: list[str] = []
    for line in text.splitlines():
        alone = _PLACE.fullmatch(line.strip())
        if alone is None:
            lines.append(_PLACE.sub(lambda place: values[place[1]], line))
        elif values[alone[1]]:
            indent = line[: len(line) - len(line.lstrip())]
            lines += textwrap.indent(values[alone[1]], indent).rstrip("\n").split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def config_of(found: Found) -> str:
    """forkserve.toml, with what the declarations say of each setting."""
    chosen = {**_CHOSEN, "app": found.app, "chdir": found.root or None}
    lines = [
        f"# How forkserve serves {found.app}:  forkserve -c {CONFIG}",
        "#",
        *_comment(f"Found: {found.why}."),
        "# These are the settings that a deployment decides; forkserve --print-config shows all.",
        f"# The environment ({PREFIX}WORKERS=4) wins over this file, the command line over both.",
        f"# After a change: forkserve --check-config -c {CONFIG}, then SIGHUP to the master",
        "# (systemctl reload).",
    ]
    lines += _about(found)
    for name, value in chosen.items():
        declaration, default = declarations()[name]
        lines.append("")
        for paragraph in (declaration.help, declaration.advice):
            lines += _comment(paragraph)
        if value is None:
            lines.append(f"#{name} = {toml_value(declaration, default)}")
        elif declaration.kind.many or value == "auto":
            lines.append(f"{name} = {json.dumps(value)}")
        else:
            lines.append(f"{name} = {toml_value(declaration, value)}")
    return "\n".join(lines) + "\n"


def _about(found: Found) -> list[str]:
    """What the framework's users have to know of a server that reads the proxy's fields."""
    advice = {
        "Django": "Django: leave SECURE_PROXY_SSL_HEADER and USE_X_FORWARDED_HOST out, as "
        "forkserve has read what the proxy says before Django does. `python manage.py check "
        "--deploy` tells what else production needs: DEBUG = False, ALLOWED_HOSTS, a "
        "secret key of its own.",
        "Flask": "Flask: leave werkzeug's ProxyFix out, as forkserve has read what the proxy says. "
        "app.run() is not called, and FLASK_DEBUG must not be set.",
    }
    return ["#", *_comment(advice[found.framework])] if found.framework in advice else []


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def unit_of(place: Place) -> str:
    """The unit of systemd."""
    at_home = place.directory.startswith(("/home/", "/root/", "/run/user/"))
    return fill(
        "service",
        {
            "name": place.name,
            "advice": "Look at its user and its paths, then:",
            "with_socket": "",
            "description": f"{place.name}, served by forkserve",
            "type": NOTIFY_RELOAD if place.systemd >= 253 else _NOTIFY,
            "directory": place.directory,
            "path": place.path,
            "config": os.path.join(place.directory, CONFIG),
            "user": place.user,
            "group": place.group,
            "protect_home": _PROTECT_HOME_BUT_READ if at_home else PROTECT_HOME,
        },
    )


def site_of(found: Found, place: Place) -> str:
    """The site of nginx, for a file that the http block includes."""
    head = "\n".join(
        [
            f"# nginx in front of {place.name}: it speaks with the world, and hands the rest on to",
            "# forkserve. Put your server_name in, and listen 443 ssl with your certificate; then:",
            f"#     cp {place.site} /etc/nginx/conf.d/{place.name}.conf",
            "#     nginx -t && nginx -s reload",
        ]
    )
    static = "# location /static/ { root /srv/myproject; }"
    if found.static is not None:
        url, directory = found.static
        by = "`manage.py collectstatic` fills it." if found.framework == "Django" else ""
        static = "\n".join(
            [
                f"# Static files, without asking the application. {by}".rstrip(),
                f"location {url} {{",
                f"    alias {directory}/;",
                "}",
            ]
        )
    values = {"upstream": place.name, "static": static}
    return f"{head}\n\n{fill('nginx', values)}"


def dockerfile_of(found: Found, place: Place) -> str:
    """The Dockerfile."""
    return fill(
        "Dockerfile",
        {
            "title": f"{found.app} in a container, with forkserve as process 1: no init, no shell.",
            "how": "\n".join(docker_commands(place, "# ")),
            "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "name": place.name,
            "install": _install(place),
            "after": _after(found, place),
            "command": json.dumps(["forkserve", "-c", CONFIG, "--bind", "0.0.0.0:8000"]),
        },
    )


def docker_commands(place: Place, prefix: str = "") -> Sequence[str]:
    """How the container is built and run."""
    run = "docker run --read-only --tmpfs /tmp --stop-timeout 45 -p 8000:8000"
    return (f"{prefix}    docker build -t {place.name} .", f"{prefix}    {run} {place.name}")


def _install(place: Place) -> str:
    if place.has_requirements:
        return (
            "# forkserve must be among them.\n"
            "COPY requirements.txt .\nRUN pip install --no-cache-dir -r requirements.txt"
        )
    if place.has_project:
        return ""  # it needs the source
    return (
        "# There was no requirements.txt, and no pyproject.toml: add what the application needs.\n"
        "RUN pip install --no-cache-dir forkserve"
    )


def _after(found: Found, place: Place) -> str:
    """What is done with the source in the image."""
    lines = []
    if place.has_project and not place.has_requirements:
        lines.append("RUN pip install --no-cache-dir . forkserve")
    if found.framework == "Django":
        manage = os.path.join(found.root, "manage.py")
        lines += [
            "# Static files: they are for nginx, which must get them from the image or a volume,",
            "# or for whitenoise. With STATIC_ROOT set, and settings that need no secrets here:",
            f"# RUN python {manage} collectstatic --noinput",
        ]
    return "\n".join(lines)
