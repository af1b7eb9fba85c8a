"""The channels to the workers, in the master's epoll: who says something, and who has not yet heard
all that was said. Nothing here blocks.
"""

import select

from forkserve.proc.channel import Channel, Message


class Channels:
    """By the serial of the worker. Used by the master's only thread."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._channels: dict[int, Channel] = {}
        self._by_fd: dict[int, int] = {}  # of those that are open at the other end

    def add(self, serial: int, channel: Channel) -> None:
        """A worker has the other end, or will have it."""
        self._channels[serial] = channel
        self._by_fd[channel.fileno()] = serial
        self._epoll.register(channel.fileno(), select.EPOLLIN)

    def serial_of(self, fd: int) -> int | None:
        """Whose descriptor this is, None if it is nobody's."""
        return self._by_fd.get(fd)

    def tell(self, serial: int, message: Message) -> None:
        """Say it, now or as soon as the worker listens. Nothing is done for one that is gone."""
        channel = self._channels.get(serial)
        if channel is not None and channel.fileno() in self._by_fd:
            channel.send(message)
            self._await(channel)

    def hear(self, serial: int) -> list[tuple[Message, str]]:
        """What the worker says; and say what it did not listen to before."""
        channel = self._channels[serial]
        if channel.fileno() not in self._by_fd:
            return []
        channel.flush()
        messages = channel.receive()
        if messages is None:
            # The worker closed its end, so it is leaving; SIGCHLD tells when it has left.
            self._epoll.unregister(channel.fileno())
            del self._by_fd[channel.fileno()]
            return []
        self._await(channel)
        return messages

    def remove(self, serial: int) -> None:
        """The worker is gone."""
        channel = self._channels.pop(serial)
        self._by_fd.pop(channel.fileno(), None)
        channel.close()

    def let_go(self) -> None:
        """In a child: or the other workers would not see the master end."""
        for channel in self._channels.values():
            channel.close()

    def _await(self, channel: Channel) -> None:
        """Wait for words of a worker; and for its ear, if it has not heard all of ours."""
        events = select.EPOLLIN | (select.EPOLLOUT if channel.unsent else 0)
        self._epoll.modify(channel.fileno(), events)
