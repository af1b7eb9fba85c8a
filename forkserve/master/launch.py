"""From a forked child of the master to the master that succeeds it: the exec."""

import os

from forkserve.errors import EXIT_FAILED
from forkserve.master.upgrade import VARIABLE, Bequest
from forkserve.proc.channel import Channel, Message
from forkserve.proc.command import Command


def become(command: Command, bequest: Bequest, channel: Channel) -> int:
    """In the forked child: run the command, which inherits ``bequest``.

    Returns only if that cannot be; what hinders it is said on ``channel``.
    """
    try:
        for fd in bequest.descriptors():
            os.set_inheritable(fd, True)
        command.execute({**os.environ, VARIABLE: bequest.encode()})
    except OSError as error:
        what = error.filename or command.program
        channel.send(Message.FAILED, f"{what}: {error.strerror}")
    return EXIT_FAILED
