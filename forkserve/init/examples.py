"""The examples of the repository, in ``conf/`` and ``systemd/``: the templates with example values.

``python -m forkserve.init.examples service``, ``nginx`` and ``Dockerfile`` print them; a test
compares.
"""

import json

from forkserve.init.render import NOTIFY_RELOAD, PROTECT_HOME, fill

_WITH_SOCKET = """\
# With forkserve.socket beside it, connections wait in the socket while the service restarts:
#     systemctl enable --now forkserve.socket
# (forkserve init writes one with the paths of your application.)"""


def service() -> str:
    """systemd/forkserve.service"""
    return fill(
        "service",
        {
            "name": "forkserve",
            "advice": "Put your paths and your user in, then:",
            "with_socket": _WITH_SOCKET,
            "description": "forkserve, a WSGI server",
            "type": NOTIFY_RELOAD,
            "directory": "/srv/myproject",
            "path": "/srv/myproject/.venv/bin:/usr/local/bin:/usr/bin:/bin",
            "config": "/etc/forkserve.toml",
            "user": "www-data",
            "group": "www-data",
            "protect_home": PROTECT_HOME,
        },
    )


def nginx() -> str:
    """conf/nginx.conf"""
    static = "# location /static/ { root /srv/myproject; }"
    site = fill("nginx", {"upstream": "application", "static": static})
    return fill("nginx-whole", {"site": site})


def dockerfile() -> str:
    """conf/Dockerfile"""
    command = ["forkserve", "--bind", "0.0.0.0:8000", "--workers", "2", "myproject:application"]
    return fill(
        "Dockerfile",
        {
            "title": "An application in a container, with forkserve as process 1: no init and no "
            "shell in between.",
            "how": "# Put your Python, your requirements (forkserve among them) and your "
            "application in, then:\n"
            "#     docker build -f conf/Dockerfile -t myproject .\n"
            "#     docker run --read-only --tmpfs /tmp --stop-timeout 45 -p 8000:8000 myproject\n"
            "# (forkserve init writes one for your application.)",
            "python": "3.12",
            "name": "myproject",
            "install": "COPY requirements.txt .\n"
            "RUN pip install --no-cache-dir -r requirements.txt",
            "after": "",
            "command": json.dumps(command),
        },
    )


EXAMPLES = {
    "systemd/forkserve.service": service,
    "conf/nginx.conf": nginx,
    "conf/Dockerfile": dockerfile,
}


if __name__ == "__main__":
    import sys

    print(next(made for name, made in EXAMPLES.items() if sys.argv[1] in name)(), end="")  # noqa: T201
