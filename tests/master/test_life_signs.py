"""What systemd is told from time to time, as tables: what the supervisor went through, what is said."""

import pytest

from forkserve.master import story
from forkserve.master.life_signs import LifeSigns
from forkserve.master.roster import Phase
from forkserve.master.story import Life, Reload
from tests.master.test_supervisor import PLAN, World

MORE = ("EXTEND_TIMEOUT_USEC=15000000",)
ALIVE = ("WATCHDOG=1",)


class Signs:
    """The signs of a world, at its time."""

    def __init__(self, world: World, watchdog: float | None = None) -> None:
        self.world = world
        self.signs = LifeSigns(watchdog)

    def look(self, after: float = 0.0) -> list[tuple[str, ...]]:
        self.world.now += after
        said = list(self.signs.look(self.world.supervisor, self.world.now))
        assert self.signs.due > self.world.now, "the loop spins"
        return said


def test_a_slow_start_asks_for_time_until_its_boot_timeout() -> None:
    signs = Signs(World(up=False))
    assert signs.look() == [MORE]
    assert signs.look(4.9) == []
    assert signs.look(0.1) == [MORE]
    said = [signs.look(5.0) for _ in range(20)]
    assert said == [[MORE]] * 11 + [[]] * 9  # 60 s
    assert signs.signs.due == float("inf")


def test_a_server_that_serves_says_nothing() -> None:
    signs = Signs(World())
    assert (signs.look(), signs.signs.due) == ([], float("inf"))


def test_each_worker_of_a_reload_is_progress() -> None:
    world = World()
    signs = Signs(world)
    world.signal("HUP")
    world.tell(story.SettingsLoaded(PLAN))
    assert signs.look() == [MORE]
    for _ in range(PLAN.workers):
        assert signs.look(50.0) == [MORE]
        world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial))
    assert world.supervisor.reload is Reload.NONE
    assert signs.look(50.0) == []


def test_attempts_that_fail_are_no_progress() -> None:
    world = World()
    signs = Signs(world)
    world.signal("HUP")
    world.tell(story.SettingsLoaded(PLAN))
    world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial))
    assert signs.look() == [MORE]
    for _ in range(20):
        for worker in world.workers(Phase.BOOTING):
            world.exit(worker, "exit status 3")
        world.tick(5.0)
        last = signs.look()
    assert (world.supervisor.reload, last) == (Reload.ROLLING, [])


def test_a_drain_asks_for_time_until_its_graceful_timeout() -> None:
    world = World()
    signs = Signs(world)
    world.signal("TERM")
    assert signs.look() == [MORE]
    assert signs.look(29.0) == [MORE]
    world.exit(world.workers(Phase.RETIRING)[0])
    assert signs.look() == []
    assert signs.look(29.0) == [MORE]  # one fewer is left
    assert signs.look(5.0) == []


def test_the_watchdog_hears_of_a_healthy_service_at_half_its_time() -> None:
    signs = Signs(World(), watchdog=10.0)
    assert (signs.look(), signs.look(4.9), signs.look(0.1)) == ([ALIVE], [], [ALIVE])
    assert signs.signs.due == signs.world.now + 5.0


def test_the_watchdog_hears_nothing_when_nobody_serves() -> None:
    world = World()
    signs = Signs(world, watchdog=10.0)
    for worker in world.workers(Phase.SERVING)[1:]:
        world.exit(worker, "SIGSEGV")
    assert signs.look() == [ALIVE]  # one is left
    world.exit(world.workers(Phase.SERVING)[0], "SIGSEGV")
    assert (signs.look(60.0), signs.signs.due) == ([], float("inf"))
    world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial))
    assert signs.look() == [ALIVE]


@pytest.mark.parametrize("name", ["WINCH", "TERM", "QUIT"])
def test_nobody_serves_and_that_is_as_it_should_be(name: str) -> None:
    world = World()
    signs = Signs(world, watchdog=10.0)
    world.signal(name)
    assert world.supervisor.life is not Life.STARTING
    assert ALIVE in signs.look()


def test_before_anybody_serves_the_watchdog_hears_nothing() -> None:
    assert ALIVE not in Signs(World(up=False), watchdog=10.0).look()
