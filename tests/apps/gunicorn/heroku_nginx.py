"""The pattern of a buildpack with nginx in front: a unix socket, and a file that says it listens."""

import os

bind = f"unix://{os.environ['STATE']}/nginx.socket"
workers = 1


def when_ready(server):
    with open(os.path.join(os.environ["STATE"], "app-initialized"), "w"):
        pass
