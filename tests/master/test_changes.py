"""A file was saved: the reload that follows, and the one that is not waited for any more."""

import pytest

from forkserve.master import story
from forkserve.master.roster import Phase
from forkserve.master.story import Plan
from tests.master.test_supervisor import PLAN, World, kill, logged, of

WATCHED = Plan(workers=3, boot_timeout=60.0, graceful_timeout=30.0, watched=True)
SAVED = story.Changed("shop.py has changed")


def test_what_has_changed_is_loaded_and_named() -> None:
    world = World(WATCHED)
    actions = world.tell(SAVED)
    assert of(story.LoadSettings, actions) == [story.LoadSettings(2)]
    assert logged(actions, "info") == "shop.py has changed: loading generation 2"
    world.tell(story.SettingsLoaded(WATCHED))
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]
    announced = of(story.Announce, world.actions)[-1]
    assert announced.text == "shop.py has changed: reloaded, generation 2"
    assert of(story.Explain, world.actions) == [story.Explain("")]
    assert logged(world.signal("HUP"), "info") == "HUP: loading generation 3"


def test_why_it_does_not_load_is_explained_before_it_is_said() -> None:
    world = World(WATCHED)
    world.tell(SAVED)
    world.tell(story.SettingsLoaded(WATCHED))
    canary = world.workers(Phase.BOOTING)[0]
    world.tell(story.BootFailed(canary.serial, "SyntaxError: no\nshop.py, line 3:"))
    actions = world.exit(canary, "exit status 3")
    kinds = [type(action) for action in actions]
    assert of(story.Explain, actions) == [story.Explain("SyntaxError: no\nshop.py, line 3:")]
    assert kinds.index(story.Explain) < kinds.index(story.Log)
    assert logged(actions, "error") == (
        "shop.py has changed: reload refused, generation 1 goes on serving unchanged; repair it, "
        "and save it.\nSyntaxError: no\nshop.py, line 3:"
    )
    assert world.serving() == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("plan", [WATCHED, PLAN])
def test_settings_that_are_refused_are_explained_too(plan: Plan) -> None:
    world = World(plan)
    world.tell(SAVED)
    actions = world.tell(story.SettingsRefused("workers: no number"))
    assert of(story.Explain, actions) == [story.Explain("workers: no number")]


@pytest.mark.parametrize("forks", [True, False])
@pytest.mark.parametrize("age", [0.0, 0.9, 1.1, 30.0])
def test_a_canary_that_takes_long_is_not_waited_for_when_the_next_change_is_saved(
    forks: bool, age: float
) -> None:
    """Also not if its fork is still to be done. It has a second."""
    world = World(WATCHED)
    world.tell(SAVED)
    world.forks = forks
    world.tell(story.SettingsLoaded(WATCHED))
    hanging = world.workers(Phase.BOOTING)[0]
    actions = world.tell(SAVED, age)
    if age < 1.0:
        assert not of(story.Discard, actions)
        world.tell(SAVED, 0.05)
        due = world.supervisor.next_deadline()
        assert due == pytest.approx(world.now + 0.95 - age)
        actions = world.tell(story.Tick(), 0.95 - age + 1e-6)
    assert of(story.Discard, actions) == [story.Discard(2)]
    assert of(story.LoadSettings, actions) == [story.LoadSettings(2)]
    killed = actions if forks else world.fork()
    assert of(story.Kill, killed) == [kill(hanging)]
    assert not logged(actions, "error")
    world.forks = True
    world.tell(story.SettingsLoaded(WATCHED))
    world.fork()
    assert not of(story.Commit, world.tell(story.Ready(hanging.serial)))  # its word came too late
    assert not logged(world.exit(hanging, "SIGKILL"), "error")
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]
    assert of(story.Commit, world.actions) == [story.Commit(2)]


def test_a_canary_that_is_ready_in_time_serves_though_something_is_newer() -> None:
    """An application may write code when it is loaded."""
    world = World(WATCHED)
    world.tell(SAVED)
    for generation in (2, 3, 4):
        world.tell(story.SettingsLoaded(WATCHED))
        world.tell(SAVED, 0.2)
        world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial), 0.3)
        world.tick(5.0)
        world.retire()
        assert world.serving() == [(slot, generation) for slot in range(3)]
    assert not of(story.Discard, world.actions)


def test_changes_while_the_others_follow_are_loaded_after_that() -> None:
    world = World(WATCHED)
    world.tell(SAVED)
    world.tell(story.SettingsLoaded(WATCHED))
    world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial))
    for _ in range(3):
        assert not of(story.LoadSettings, world.tell(SAVED))
    world.retire()
    assert of(story.LoadSettings, world.actions) == [story.LoadSettings(2), story.LoadSettings(3)]


def test_a_change_before_anybody_is_ready_is_loaded_then() -> None:
    world = World(WATCHED, up=False)
    assert not of(story.LoadSettings, world.tell(SAVED))
    actions = world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial))
    assert of(story.LoadSettings, actions) == [story.LoadSettings(2)]


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_who_stops_reloads_nothing(name: str) -> None:
    world = World(WATCHED)
    world.signal(name)
    assert not world.tell(SAVED)


@pytest.mark.parametrize(
    ("how", "waits"), [("SIGKILL", True), ("exit status 5", True), ("exit status 1", False)]
)
def test_at_the_start_a_repair_is_waited_for(how: str, waits: bool) -> None:
    """By workers that do not load what has ended the others; once."""
    world = World(WATCHED, up=False)
    actions = [world.exit(worker, how) for worker in world.workers(Phase.BOOTING)]
    assert len(of(story.Spawn, actions[-1])) == (3 if waits else 0)
    assert len(of(story.Exit, world.actions)) == (not waits)
    if waits:
        assert f"It ended with {how}" in of(story.Explain, world.actions)[0].reason
        assert isinstance(actions[-1][-1], story.Spawn)
        for worker in world.workers(Phase.BOOTING):
            world.exit(worker, how)
        assert len(of(story.Exit, world.actions)) == 1


def test_without_a_watcher_nobody_waits_for_a_repair() -> None:
    world = World(PLAN, up=False)
    for worker in world.workers(Phase.BOOTING):
        world.exit(worker, "SIGKILL")
    assert of(story.Exit, world.actions)
    assert not of(story.Explain, world.actions)
