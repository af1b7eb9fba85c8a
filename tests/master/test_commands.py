"""What an operator's commands mean to the supervisor and to the upgrade: no process, no clock."""

import pytest

from forkserve.master import story, upgrade
from forkserve.master.roster import Phase
from forkserve.master.story import Plan
from forkserve.master.upgrade import Gone, Launched, LaunchFailed, SaidFailed, SaidReady, Step
from forkserve.proc.channel import Message
from forkserve.settings.kinds import MOST_WORKERS
from tests.master.test_supervisor import World, of
from tests.master.test_upgrade import USR2, Master

FOLLOWS = Plan(workers=2, boot_timeout=60.0, graceful_timeout=30.0, most=4)


@pytest.mark.parametrize(
    ("plan", "count", "numbers"),
    [
        (Plan(3, 60.0, 30.0), 5, (5, 5, 5)),
        (Plan(3, 60.0, 30.0), 1, (1, 1, 1)),
        (Plan(3, 60.0, 30.0), MOST_WORKERS, (MOST_WORKERS,) * 3),
        # Of a range both bounds move, as with TTIN and TTOU.
        (FOLLOWS, 3, (3, 3, 5)),
        (FOLLOWS, 1, (1, 1, 3)),
        (FOLLOWS, MOST_WORKERS, (MOST_WORKERS,) * 3),
    ],
)
def test_scale(plan: Plan, count: int, numbers: tuple[int, int, int]) -> None:
    world = World(plan)
    [log] = of(story.Log, world.tell(story.Scale(count)))[:1]
    assert log.text.startswith("scale: from ")
    strength = world.supervisor.strength
    assert (strength.wanted, strength.least, strength.most) == numbers
    world.boot()
    world.leave()
    assert [worker.slot for worker in world.workers(Phase.SERVING)] == list(range(count))


def test_scale_to_what_there_is() -> None:
    [log] = of(story.Log, World(Plan(3, 60.0, 30.0)).tell(story.Scale(3)))
    assert (log.level, log.text) == ("info", "scale: still 3 workers")


def test_scale_lasts_until_a_reload() -> None:
    world = World()
    world.tell(story.Scale(5))
    world.boot()
    world.signal("HUP")
    world.tell(story.SettingsLoaded(Plan(3, 60.0, 30.0)))
    world.boot()
    assert world.supervisor.wanted == 3


def test_scale_brings_workers_back_after_winch() -> None:
    world = World()
    world.signal("WINCH")
    world.leave()
    world.tell(story.Scale(2))
    world.boot()
    assert len(world.workers(Phase.SERVING)) == 2


def test_a_worker_is_replaced_successor_first() -> None:
    world = World()
    old = world.workers(Phase.SERVING)[1]
    actions = world.tell(story.Replace(old.serial))
    assert [spawn.slot for spawn in of(story.Spawn, actions)] == [1]
    assert "forkservectl retire" in str(of(story.Log, actions))
    assert old.phase is Phase.SERVING
    actions = world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial), 0.1)
    assert old.phase is Phase.RETIRING
    assert story.Tell(old.serial, Message.RETIRE) in actions


def test_a_worker_that_leaves_is_not_replaced_twice() -> None:
    world = World()
    old = world.workers(Phase.SERVING)[1]
    world.tell(story.Replace(old.serial))
    world.boot()
    assert of(story.Spawn, world.tell(story.Replace(old.serial))) == []
    world.leave()
    assert world.tell(story.Replace(old.serial)) == []


def test_each_reload_settles_as_its_own() -> None:
    """What a command waits for: the first reload that begins after it has come to its end."""
    world = World()
    supervisor = world.supervisor
    assert (supervisor.loads, supervisor.settled) == (0, 0)
    world.signal("HUP")
    world.signal("HUP")  # noted: it is the second reload
    assert (supervisor.loads, supervisor.settled) == (1, 0)
    world.tell(story.SettingsRefused("bad\nand more"))
    assert (supervisor.loads, supervisor.settled) == (2, 1)
    assert supervisor.refusal == "bad\nand more"
    world.tell(story.SettingsLoaded(Plan(3, 60.0, 30.0)))
    assert supervisor.settled == 1
    world.boot()
    world.leave()
    assert (supervisor.loads, supervisor.settled, supervisor.refusal) == (2, 2, "")


def test_a_canary_that_dies_is_told_with_its_reason() -> None:
    world = World()
    world.signal("HUP")
    world.tell(story.SettingsLoaded(Plan(3, 60.0, 30.0)))
    [canary] = world.workers(Phase.BOOTING)
    world.tell(story.BootFailed(canary.serial, "ImportError: no such thing"))
    world.exit(canary, "exit status 3")
    assert world.supervisor.settled == 1
    assert "ImportError: no such thing" in world.supervisor.refusal


@pytest.mark.parametrize(
    ("events", "step", "refusal"),
    [
        ([LaunchFailed("no room")], Step.NONE, "no room"),
        ([Launched(7)], Step.BOOTING, ""),
        ([Launched(7), SaidReady()], Step.SUCCEEDED, ""),
        ([Launched(7), SaidFailed("bad setting"), Gone("exit status 2")], Step.NONE, "bad setting"),
        ([Launched(7), Gone("SIGKILL")], Step.NONE, "It ended with SIGKILL"),
    ],
)
def test_why_an_upgrade_came_to_nothing(
    events: list[upgrade.Event], step: Step, refusal: str
) -> None:
    master = Master(story.SignalCame(USR2), *events)
    assert master.upgrade.step is step
    assert master.upgrade.refusal.startswith(refusal) and bool(master.upgrade.refusal) is bool(
        refusal
    )


def test_an_upgrade_that_is_too_slow() -> None:
    master = Master(story.SignalCame(USR2), Launched(7))
    master.tell(story.Tick(), after=1000.0)
    master.tell(Gone("exit status 0"))
    assert (master.upgrade.step, master.upgrade.refusal) == (Step.NONE, upgrade.TOO_SLOW)
    master.signal(USR2)
    master.tell(Launched(8))
    assert master.upgrade.refusal == ""


def test_an_upgrade_that_cannot_be_now() -> None:
    master = Master()
    master.signal(USR2, obstacle="a reload is under way")
    assert (master.upgrade.step, master.upgrade.refusal) == (Step.NONE, "a reload is under way")
