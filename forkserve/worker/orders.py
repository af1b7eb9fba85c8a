"""What a worker is told: by the master on its channel, and by who sends it signals."""

import signal
from collections.abc import Callable

from forkserve.proc.channel import Channel, Message
from forkserve.proc.signals import SignalQueue
from forkserve.proc.stacks import write_stacks
from forkserve.worker.loop import Loop


class Orders:
    """Used by the thread that leads. Nothing here calls the application: an order is carried out
    whole."""

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        signals: SignalQueue,
        reopen_logs: Callable[[], None],
        told_to_quit: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._told_to_quit = told_to_quit
        self._channel = channel
        self._signals = signals
        self._reopen_logs = reopen_logs
        loop.watch(channel.fileno(), self._obey)
        loop.watch(signals.fileno(), self._on_signals)

    def _obey(self) -> None:
        messages = self._channel.receive()
        if messages is None:
            # The master is gone, and nobody would collect or replace this process.
            self._loop.quitting = True
            return
        for message, _ in messages:
            if message is Message.RETIRE:
                self._loop.retire()
            elif message is Message.STOP:
                self._loop.stop()
            elif message is Message.QUIT:
                self._quit()
            elif message is Message.LOOK:
                self._loop.admission.look()
            elif message is Message.PING:
                self._channel.send(Message.PING)
            elif message is Message.STACKS:
                write_stacks()
                self._channel.send(Message.STACKS)
            elif message is Message.REOPEN:
                self._reopen_logs()

    def _on_signals(self) -> None:
        """A service manager may signal the workers along with the master."""
        for number in self._signals.heard():
            if number == signal.SIGTERM:
                self._channel.send(Message.LEAVING)
                self._loop.stop()
            elif number in (signal.SIGINT, signal.SIGQUIT):
                self._quit()
            elif number == signal.SIGUSR1:
                self._reopen_logs()

    def _quit(self) -> None:
        if not self._loop.quitting:
            self._loop.quitting = True
            self._told_to_quit()
