"""From a forked child of the master to the master that succeeds it: the exec."""

import os

from forkserve.errors import EXIT_FAILED, ForkserveError
from forkserve.master.upgrade import VARIABLE, Bequest
from forkserve.ops.takers import Takers
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


def inherit(bequest: Bequest) -> None:
    """In the process that it has become: no child inherits them. Raises ForkserveError."""
    for fd in bequest.descriptors():
        try:
            os.set_inheritable(fd, False)
        except OSError:
            raise ForkserveError(f"{VARIABLE} names descriptors that are closed") from None


def takers_of(bequest: Bequest) -> Takers:
    """What it has inherited of them. Raises ForkserveError."""
    fd, place = bequest.takers
    try:
        return Takers(fd, place) if fd >= 0 else Takers.make()
    except (OSError, ValueError) as error:
        raise ForkserveError(f"the memory of the upgrade cannot be mapped: {error}") from None
