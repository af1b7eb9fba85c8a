"""``python -m benchmarks.handoff``: what it costs to hand a connection to another process, and how
many connections fit into the queue.

One process gives an idle TCP connection, another is woken by epoll, takes it and gives it back, as
often as is asked for: half a round trip is one hand-off. Each process has a processor of its own.
"""

import argparse
import os
import select
import socket
import statistics
import time

from forkserve.worker.handoff import MAX_OCTETS, HandoffQueue, Parcel

_SIZES = (0, 300, 4096, MAX_OCTETS)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.handoff", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=20000, help="round trips in each round")
    arguments = parser.parse_args()
    for size in _SIZES:
        times = [there_and_back(size, arguments.count) for _ in range(arguments.rounds)]
        print(
            f"{size:5} octets: {statistics.median(times):5.1f} us a hand-off (best "
            f"{min(times):.1f}), {work(size, arguments.count):5.1f} us of it work; "
            f"{room(size):5} fit into the queue"
        )


def parcel(size: int) -> Parcel:
    return Parcel(("192.0.2.1", "47110"), "127.0.0.1:8000", 1, 5.0, b"x" * size)


def make() -> HandoffQueue:
    queue = HandoffQueue.make()
    if queue is None:
        raise SystemExit("this system has no hand-off queue")
    return queue


def connection() -> tuple[socket.socket, socket.socket]:
    """A client, and the server's socket of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


def room(size: int) -> int:
    """Connections that fit into a queue, each with ``size`` octets."""
    queue, count = make(), 0
    client, server = connection()
    while queue.give(server, parcel(size)):
        count += 1
    queue.close()
    client.close()
    server.close()
    return count


def work(size: int, count: int) -> float:
    """Microseconds for the same in one process, that neither sleeps nor is woken."""
    queue = make()
    client, server = connection()
    began = time.monotonic()
    for _ in range(count):
        queue.give(server, parcel(size))
        server.close()
        taken = queue.take()
        assert taken is not None
        server = taken[0]
    seconds = time.monotonic() - began
    queue.close()
    client.close()
    server.close()
    return seconds / count * 1e6


def there_and_back(size: int, count: int) -> float:
    """Microseconds for one hand-off: give, close, wake, take."""
    there, back = make(), make()
    client, server = connection()
    if os.fork() == 0:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        pass_on(there, back, count)
        os._exit(0)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    there.give(server, parcel(size))
    server.close()
    began = time.monotonic()
    pass_on(back, there, count)
    seconds = time.monotonic() - began
    os.wait()
    os.sched_setaffinity(0, cpus)
    client.close()
    there.close()
    back.close()
    return seconds / count / 2 * 1e6


def pass_on(source: HandoffQueue, target: HandoffQueue, count: int) -> None:
    """Take what comes, and give it further, ``count`` times."""
    poll = select.epoll()
    poll.register(source.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
    for _ in range(count):
        poll.poll()
        taken = source.take()
        assert taken is not None
        target.give(*taken)
        taken[0].close()
    poll.close()


if __name__ == "__main__":
    main()
