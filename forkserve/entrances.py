"""What the children of the master run: from what each is born with to its exit status.

The worker and the master know nothing of each other; here stands what a child has of both.
"""

import time
from functools import partial

from forkserve.develop.board import Board
from forkserve.master.lookout import WatcherSeat
from forkserve.master.spawn import Seat, StatusSeat, TemplateSeat
from forkserve.ops.scoreboard import Scoreboard
from forkserve.ops.snapshot import take_snapshot
from forkserve.proc.channel import Channel
from forkserve.settings import Settings
from forkserve.worker.handoff import HandoffQueue
from forkserve.worker.logs import LogFiles, first_log
from forkserve.worker.main import Trim, run_worker
from forkserve.worker.process import Preloaded, give_up, prepare_process
from forkserve.worker.template import run_template
from forkserve.wsgi.call import Application


def enter_worker(
    queue: HandoffQueue | None,
    board: Board | None,
    seat: Seat,
    preloaded: Preloaded | None = None,
) -> int:
    """A worker of the application."""
    generation = seat.generation
    return run_worker(
        generation.settings,
        slot=seat.slot,
        generation=generation.number,
        row=seat.row,
        listeners=generation.listeners,
        channel=seat.channel,
        files=LogFiles(generation.error_file, generation.access_file),
        log_config=generation.log_config,
        tls=generation.tls,
        queue=queue,
        master=seat.master,
        board=board,
        newborn=seat.newborn if preloaded is None else preloaded.newborn,
        preloaded=preloaded,
        trim=Trim(
            statsd=generation.statsd,
            front=partial(_put_in_front, generation.settings, seat.row.board),
        ),
    )


def _put_in_front(settings: Settings, board: Scoreboard, app: Application) -> Application:
    """`health_path` and `metrics_path`, if they are set: nobody else pays for them."""
    health, metrics = settings.health_path, settings.metrics_path
    if health is None and metrics is None:
        return app
    from forkserve.ops.own_paths import OwnPaths  # only for who asks

    return OwnPaths(
        app, lambda: take_snapshot(board, time.monotonic()), health=health, metrics=metrics
    )


def enter_template(queue: HandoffQueue | None, board: Board | None, seat: TemplateSeat) -> int:
    """What makes the workers of a generation with `preload`, and what those run that it forks."""
    generation, master = seat.generation, seat.master

    def enter(slot: int, row: int, channel: Channel, preloaded: Preloaded) -> int:
        own = Seat(generation, slot, seat.scoreboard.row(row), channel, master, None)
        return enter_worker(queue, board, own, preloaded)

    return run_template(
        generation.settings,
        generation=generation.number,
        listeners=generation.listeners,
        queue=queue,
        channel=seat.channel,
        files=LogFiles(generation.error_file, generation.access_file),
        log_config=generation.log_config,
        master=master,
        board=board,
        server=seat.server,
        enter_worker=enter,
    )


def enter_status(seat: StatusSeat) -> int:
    """A worker like any other, of an application of our own."""
    from forkserve.ops.status import StatusSite  # not in each master

    generation = seat.generation
    own = Scoreboard(1)  # it is none of those that it tells of
    own.take(0, 1)
    try:
        settings = prepare_process(generation.settings)
        site = StatusSite(lambda: take_snapshot(seat.scoreboard, time.monotonic()), time.monotonic)
        site.begin()
    except Exception as error:  # noqa: BLE001 - the master waits to hear why
        return give_up(seat.channel, generation.settings, error)
    return run_worker(
        settings,
        slot=0,
        generation=generation.number,
        row=own.row(0),
        listeners=generation.listeners,
        channel=seat.channel,
        files=LogFiles(generation.error_file, None),
        log_config=None,
        tls=None,
        queue=None,
        master=seat.master,
        preloaded=Preloaded(settings, site, None),
        trim=Trim(who="status"),
    )


def enter_watcher(
    queue: HandoffQueue | None, board: Board, config: str | None, seat: WatcherSeat
) -> int:
    """The watcher of files."""
    from forkserve.develop.watcher import run_watcher  # only for who develops

    generation = seat.generation
    for item in (*generation.listeners, queue):
        if item is not None:
            item.close()  # or clients would wait for a process that accepts nobody
    return run_watcher(
        generation.settings,
        config,
        channel=seat.channel,
        told=board.told,
        log=first_log(generation.settings, LogFiles(generation.error_file, None), "watcher"),
        master=seat.master,
    )
