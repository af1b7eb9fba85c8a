"""A worker takes the file that it writes its stacks into, for who asks from outside."""

import select

from forkserve.net.fdpass import receive_fd
from forkserve.proc.channel import LARGEST, Channel
from forkserve.proc.stacks import write_stacks_into

_PATIENCE_MS = 1000


def take_stack_file(channel: Channel | None) -> None:
    """Take the file that comes first on ``channel``, and write the stacks into it at the signal.

    The master sent it before this process was made, or right after; so nobody waits, unless that is
    stopped just now. A worker without such a file serves as well as one with it. None: nobody sends
    one. For the main thread.
    """
    if channel is None:
        return
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    if not poll.poll(_PATIENCE_MS):
        return
    try:
        _, fd = receive_fd(channel.sock, LARGEST)
    except OSError:  # this process may have no more descriptors
        return
    if fd is not None:
        write_stacks_into(fd)
