"""What the master listens to: signals, and the words of workers."""

import signal

from forkserve.master import story
from forkserve.proc.channel import Message
from forkserve.proc.signals import FOR_MASTER

SIGNALS = (*FOR_MASTER, signal.SIGCHLD)


def event_of(message: Message, serial: int, text: str) -> story.Event | None:
    """What a word of the worker ``serial`` is to the supervisor; None: nothing."""
    match message:
        case Message.READY:
            return story.Ready(serial)
        case Message.FAILED:
            return story.BootFailed(serial, text)
        case Message.DUE:
            return story.Due(serial, int(text))
        case Message.STUCK:
            return story.Stuck(serial, text)
        case Message.LEAVING:
            return story.Leaving(serial)
        case _:
            return None
