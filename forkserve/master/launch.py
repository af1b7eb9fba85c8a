"""From a forked child of the master to the master that succeeds it: the exec."""

import os

from forkserve.proc.channel import Channel, Message
from forkserve.proc.command import Command


def become(
    command: Command, environ: dict[str, str], descriptors: list[int], channel: Channel
) -> None:
    """In the forked child: run the command. Does not return.

    ``descriptors`` are inherited, by their numbers; what hinders the exec is said on ``channel``.
    """
    try:
        for fd in descriptors:
            os.set_inheritable(fd, True)
        command.execute(environ)
    except OSError as error:
        what = error.filename or command.program
        channel.send(Message.FAILED, f"{what}: {error.strerror}")
    finally:
        os._exit(1)
