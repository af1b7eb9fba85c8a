"""The life of workers, told as stories to the pure supervisor: no process, no clock."""

import random
import signal
from itertools import pairwise
from typing import TypeVar

import pytest

from forkserve.errors import EXIT_APPLICATION, EXIT_FAILED
from forkserve.master import story, wording
from forkserve.master.roster import Phase, Worker
from forkserve.master.story import Action, Event, Life, Plan, Reload
from forkserve.master.supervisor import Supervisor
from forkserve.proc.channel import Message
from forkserve.settings.kinds import MOST_WORKERS

PLAN = Plan(workers=3, boot_timeout=60.0, graceful_timeout=30.0)


class World:
    """A supervisor, and the processes that it believes in."""

    def __init__(self, plan: Plan = PLAN, *, up: bool = True, forks: bool = True) -> None:
        """``forks``: each fork succeeds at once; else its serial is noted in ``unforked``."""
        self.supervisor = Supervisor(plan)
        self.now = 1000.0
        self.actions: list[Action] = []
        self.forks = forks
        self.unforked: list[int] = []
        self.hasty = 0
        self.tell(story.Started())
        if up:
            self.boot()

    def tell(self, event: Event, after: float = 0.0) -> list[Action]:
        """What the supervisor does about ``event``."""
        self.now += after
        actions = self._handle(event)
        if self.forks:
            actions += self.fork()
        return actions

    def fork(self) -> list[Action]:
        """All forks that are still to be done succeed."""
        actions: list[Action] = []
        while self.unforked:
            serial = self.unforked.pop(0)
            actions += self._handle(story.Forked(serial, pid_of(serial)))
        return actions

    def _handle(self, event: Event) -> list[Action]:
        actions = self.supervisor.handle(event, self.now)
        self.unforked += [action.serial for action in actions if isinstance(action, story.Spawn)]
        self.actions += actions
        self.check(actions)
        return actions

    def check(self, actions: list[Action]) -> None:
        """What must hold after every event."""
        due = self.supervisor.next_deadline()
        self.hasty = self.hasty + 1 if due is not None and due <= self.now else 0
        assert self.hasty <= self.supervisor.wanted, "the loop spins"
        for kill in of(story.Kill, actions):
            assert kill.pid == pid_of(kill.serial), "somebody else is killed"
        roster = self.supervisor.roster
        rows = [worker.row for worker in roster]
        assert len(set(rows)) == len(rows), "two workers write one row"
        serving = [worker.slot for worker in roster.in_phase(Phase.SERVING)]
        assert len(set(serving)) == len(serving), "two workers serve in one slot"

    def signal(self, name: str, after: float = 0.0) -> list[Action]:
        return self.tell(story.SignalCame(getattr(signal, f"SIG{name}")), after)

    def boot(self) -> None:
        """Everyone who boots becomes ready, and so on, until nobody boots."""
        while booting := self.workers(Phase.BOOTING):
            if booting[0].failure:
                self.exit(booting[0], "exit status 3")
            else:
                self.tell(story.Ready(booting[0].serial), 0.1)

    def leave(self) -> None:
        """Everyone who retires, or is being killed, is gone."""
        for worker in self.workers(Phase.RETIRING, Phase.ABORTING):
            self.exit(worker)

    def exit(
        self,
        worker: Worker,
        how: str = "exit status 0",
        request: str | None = None,
        after: float = 0.0,
    ) -> list[Action]:
        word, _, number = how.rpartition(" ")
        status = int(number) if word else -getattr(signal, how)
        return self.tell(story.Exited(worker.serial, status, how, request), after)

    def tick(self, after: float) -> list[Action]:
        """Let time pass, with a Tick at each deadline."""
        end = self.now + after
        actions: list[Action] = []
        while (due := self.supervisor.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            actions += self.tell(story.Tick())
        self.now = end
        return actions + self.tell(story.Tick())

    def workers(self, *phases: Phase) -> list[Worker]:
        return self.supervisor.roster.in_phase(*phases)

    def serving(self) -> list[tuple[int, int]]:
        """(slot, generation) of everyone who serves."""
        return [(worker.slot, worker.generation) for worker in self.workers(Phase.SERVING)]

    def retire(self) -> None:
        """A reload as it goes: boot one, retire one, until it is done."""
        while self.workers(Phase.BOOTING, Phase.RETIRING, Phase.ABORTING):
            self.boot()
            self.leave()


T = TypeVar("T")


def pid_of(serial: int) -> int:
    return 10000 + serial


def abort(worker: Worker) -> story.Kill:
    return story.Kill(worker.serial, worker.pid, signal.SIGABRT)


def kill(worker: Worker) -> story.Kill:
    return story.Kill(worker.serial, worker.pid, signal.SIGKILL)


def of(kind: type[T], actions: list[Action]) -> list[T]:
    return [action for action in actions if isinstance(action, kind)]


def logged(actions: list[Action], level: str | None = None) -> str:
    return "\n".join(
        action.text for action in of(story.Log, actions) if level in (None, action.level)
    )


# ---- the start


def test_all_slots_are_filled_at_once_and_the_first_ready_worker_is_announced() -> None:
    world = World(up=False)
    spawned = of(story.Spawn, world.actions)
    assert [(item.slot, item.generation) for item in spawned] == [(0, 1), (1, 1), (2, 1)]
    first = world.tell(story.Ready(spawned[1].serial))
    assert of(story.Announce, first)
    assert story.Notify(("READY=1", "STATUS=serving")) in first
    second = world.tell(story.Ready(spawned[0].serial))
    assert not of(story.Announce, second)
    assert not of(story.Notify, second)


def test_if_nobody_can_boot_the_server_exits_and_says_why_once() -> None:
    world = World(up=False)
    for worker in world.workers(Phase.BOOTING):
        world.tell(story.BootFailed(worker.serial, "No module named x\nTraceback..."))
        world.exit(worker, "exit status 3")
    assert logged(world.actions).count("No module named x") == 1
    assert "nothing to serve" in logged(world.actions, "critical")
    assert of(story.Exit, world.actions) == [story.Exit(EXIT_APPLICATION)]
    assert len(of(story.Spawn, world.actions)) == 3
    assert not of(story.Notify, world.actions) or "READY=1" not in str(world.actions)


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("exit status 1", EXIT_FAILED),  # the user cannot be changed, a log cannot be opened
        ("exit status 3", EXIT_APPLICATION),
        ("SIGKILL", EXIT_APPLICATION),
    ],
)
def test_the_exit_status_says_whose_fault_the_first_boot_was(how: str, status: int) -> None:
    world = World(up=False)
    for worker in world.workers(Phase.BOOTING):
        world.tell(story.BootFailed(worker.serial, "why"))
        world.exit(worker, how)
    assert of(story.Exit, world.actions) == [story.Exit(status)]


def test_if_nobody_can_be_forked_the_server_exits() -> None:
    world = World(up=False, forks=False)
    for serial in world.unforked:
        world.tell(story.ForkFailed(serial, "no memory"))
    assert "could not be forked: no memory" in logged(world.actions, "error")
    assert of(story.Exit, world.actions) == [story.Exit(EXIT_FAILED)]


def test_one_that_cannot_boot_is_no_reason_to_stop_while_another_serves() -> None:
    world = World(up=False)
    first, second, third = world.workers(Phase.BOOTING)
    world.exit(first, "exit status 3")
    assert not of(story.Exit, world.actions)
    assert len(of(story.Spawn, world.actions)) == 3
    actions = world.tell(story.Ready(second.serial))
    actions += world.tell(story.Ready(third.serial))
    assert not of(story.Exit, actions)
    assert [item.slot for item in of(story.Spawn, world.tick(1.0))] == [0]
    world.boot()
    assert world.serving() == [(0, 1), (1, 1), (2, 1)]


def test_a_boot_has_a_deadline() -> None:
    world = World(up=False)
    first, *others = world.workers(Phase.BOOTING)
    for worker in others:
        world.tell(story.Ready(worker.serial))
    assert of(story.Kill, world.tick(60.0)) == [abort(first)]
    assert not of(story.Kill, world.tick(0.9))
    assert of(story.Kill, world.tick(0.1)) == [kill(first)]
    actions = world.exit(first, "SIGKILL")
    assert "could not boot" in logged(actions, "error")
    assert wording.BOOT_DEADLINE in logged(actions, "error")
    assert [item.slot for item in of(story.Spawn, world.tick(0.5))] == [0]


def test_a_fork_that_fails_is_tried_again_later() -> None:
    supervisor = Supervisor(PLAN)
    spawned = of(story.Spawn, supervisor.handle(story.Started(), 0.0))
    supervisor.handle(story.Forked(spawned[0].serial, 1), 0.0)
    supervisor.handle(story.ForkFailed(spawned[1].serial, "no memory"), 0.0)
    supervisor.handle(story.Forked(spawned[2].serial, 3), 0.0)
    actions = supervisor.handle(story.Ready(spawned[0].serial), 0.1)
    assert not of(story.Spawn, actions)
    assert supervisor.next_deadline() == 0.5
    actions = supervisor.handle(story.Tick(), 0.5)
    assert [item.slot for item in of(story.Spawn, actions)] == [1]


# ---- deaths


def test_a_worker_that_dies_is_replaced_at_once_and_the_log_says_what_it_was_doing() -> None:
    world = World()
    victim = world.workers(Phase.SERVING)[1]
    actions = world.exit(victim, "SIGKILL", "GET /slow HTTP/1.1", after=60.0)
    assert [item.slot for item in of(story.Spawn, actions)] == [1]
    text = logged(actions, "error")
    assert "worker 1 gen 1 (pid 10002) died: SIGKILL" in text
    assert "'GET /slow HTTP/1.1'" in text
    assert "out of memory" in text
    assert "replaced now" in text


def test_when_a_worker_dies_the_others_look_for_whom_it_was_woken() -> None:
    world = World()
    victim, *others = world.workers(Phase.SERVING)
    told = of(story.Tell, world.exit(victim))
    assert told == [story.Tell(other.serial, Message.LOOK) for other in others]


def test_who_leaves_in_peace_has_looked_itself() -> None:
    world = World()
    reload(world)
    world.boot()
    assert Message.LOOK not in [told.message for told in of(story.Tell, world.actions)]


def test_a_client_cannot_forge_a_line_through_the_request_in_the_log() -> None:
    world = World()
    actions = world.exit(world.workers(Phase.SERVING)[0], "SIGSEGV", "GET /\x1b[31m\x9b HTTP/1.1")
    assert "\x1b" not in logged(actions)
    assert "\x9b" not in logged(actions)


def deaths_in(
    world: World,
    seconds: float,
    lives: float,
    how: str = "exit status 1",
    request: str | None = None,
) -> list[float]:
    """Times at which slot 0 is filled, if each worker in it dies ``lives`` after it is ready."""
    end = world.now + seconds
    times = []
    while world.now < end:
        mine = next((w for w in world.workers(Phase.SERVING) if w.slot == 0), None)
        if mine is not None:
            world.exit(mine, how, request, after=lives)
        else:
            due = world.supervisor.next_deadline()
            assert due is not None
            world.tick(due - world.now)
        for worker in world.workers(Phase.BOOTING):
            times.append(world.now)
            world.tell(story.Ready(worker.serial))
    return [time for time in times if time <= end]


def most_in_ten_seconds(times: list[float]) -> int:
    return max(len([time for time in times if start <= time < start + 10.0]) for start in times)


@pytest.mark.parametrize("lives", [0.0, 0.1, 1.0, 1.49])
def test_a_crash_loop_is_slowed_down_to_one_in_thirty_seconds(lives: float) -> None:
    world = World()
    begin = world.now
    times = deaths_in(world, 600.0, lives)
    assert most_in_ten_seconds(times) <= 7
    late = [time for time in times if time > begin + 300.0]
    assert len(late) <= 10 + 1


@pytest.mark.parametrize("lives", [0.0, 1.0, 1.49])
@pytest.mark.parametrize(
    ("how", "request_"),
    [("SIGSEGV", "GET /poison HTTP/1.1"), ("exit status 1", "GET /poison HTTP/1.1"),
     ("SIGKILL", None), ("SIGTERM", None)],
)  # fmt: skip
def test_poisonous_requests_and_kills_from_outside_leave_no_slot_empty_for_long(
    lives: float, how: str, request_: str | None
) -> None:
    world = World()
    times = deaths_in(world, 600.0, lives, how, request_)
    assert all(b - a <= 2.0 + lives + 0.01 for a, b in pairwise(times))
    assert most_in_ten_seconds(times) <= 7
    assert "replaced in 2 s" in logged(world.actions, "error")


@pytest.mark.parametrize("lives", [1.51, 2.0])
def test_a_worker_that_lives_a_while_is_always_replaced_at_once(lives: float) -> None:
    world = World()
    times = deaths_in(world, 100.0, lives)
    assert all(abs(b - a - lives) < 0.01 for a, b in pairwise(times))
    assert most_in_ten_seconds(times) <= 7


def test_a_boot_that_fails_again_and_again_is_tried_every_thirty_seconds() -> None:
    world = World()
    world.exit(world.workers(Phase.SERVING)[0], after=10.0)
    pauses = []
    for _ in range(8):
        world.exit(world.workers(Phase.BOOTING)[0], "exit status 3")
        due = world.supervisor.next_deadline()
        assert due is not None
        pauses.append(due - world.now)
        world.tick(pauses[-1])
    assert pauses == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0])


def test_a_worker_that_somebody_else_ends_is_replaced_at_once_and_has_not_died() -> None:
    world = World()
    worker = world.workers(Phase.SERVING)[1]
    actions = world.tell(story.Leaving(worker.serial))
    assert [item.slot for item in of(story.Spawn, actions)] == [1]
    assert not of(story.Tell, actions)  # it knows
    assert "somebody else" in logged(actions, "info")
    assert world.tell(story.Leaving(worker.serial)) == []
    world.boot()
    assert logged(world.exit(worker), "error") == ""
    # As if nothing had been: the first death of the slot is free.
    assert of(story.Spawn, world.exit(world.workers(Phase.SERVING)[1], "SIGSEGV"))


def test_a_worker_that_somebody_else_ends_has_its_time_to_finish() -> None:
    world = World()
    worker = world.workers(Phase.SERVING)[1]
    world.tell(story.Leaving(worker.serial))
    world.boot()
    assert not of(story.Kill, world.tick(29.0))
    assert of(story.Kill, world.tick(1.0)) == [kill(worker)]


@pytest.mark.parametrize("name", ["TTOU", "TERM"])
def test_the_death_of_a_worker_that_was_leaving_is_logged(name: str) -> None:
    world = World()
    world.signal(name)
    *_, worker = world.workers(Phase.RETIRING)
    text = logged(world.exit(worker, "SIGSEGV", "GET /last HTTP/1.1"), "error")
    assert "died: SIGSEGV, in the request 'GET /last HTTP/1.1'" in text
    assert "replaced" not in text
    world = World()
    world.signal(name)
    assert not logged(world.exit(world.workers(Phase.RETIRING)[-1]), "error")


def test_a_request_that_was_cut_off_is_named() -> None:
    world = World()
    world.signal("TTOU")
    (slow,) = world.workers(Phase.RETIRING)
    world.tick(30.0)
    actions = world.exit(slow, "SIGKILL", "GET /slow HTTP/1.1")
    assert "killed in the request 'GET /slow HTTP/1.1'" in logged(actions, "info")
    assert not logged(actions, "error")


def test_the_same_traceback_is_logged_once_and_then_in_one_line() -> None:
    world = World()
    world.exit(world.workers(Phase.SERVING)[0], after=10.0)
    texts = []
    for _ in range(4):
        worker = world.workers(Phase.BOOTING)[0]
        world.tell(story.BootFailed(worker.serial, "ImportError: x\nTraceback\n line"))
        texts.append(logged(world.exit(worker, "exit status 3")))
        world.tick(40.0)
    assert texts[0].count("\n") == 2
    assert all("\n" not in text and "ImportError" in text for text in texts[1:])


def test_other_slots_are_not_touched_by_a_crash_loop() -> None:
    world = World()
    before = {(w.serial, w.slot) for w in world.workers(Phase.SERVING) if w.slot}
    deaths_in(world, 60.0, 0.0)
    assert before <= {(w.serial, w.slot) for w in world.workers(Phase.SERVING)}


# ---- reload


def test_hup_replaces_one_after_the_other_and_never_retires_before_a_successor_is_ready() -> None:
    world = World()
    actions = world.signal("HUP")
    assert of(story.LoadSettings, actions) == [story.LoadSettings(2)]
    actions = world.tell(story.SettingsLoaded(PLAN))
    assert [(item.slot, item.generation) for item in of(story.Spawn, actions)] == [(0, 2)]
    assert not of(story.Tell, actions)
    for slot in range(3):
        booting = world.workers(Phase.BOOTING)
        assert [(worker.slot, worker.generation) for worker in booting] == [(slot, 2)]
        retired = of(story.Tell, world.tell(story.Ready(booting[0].serial), 2.0))
        assert [item.message for item in retired] == [Message.RETIRE]
        old = world.supervisor.roster.get(retired[0].serial)
        assert old is not None
        assert (old.slot, old.generation) == (slot, 1)
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]
    assert of(story.Commit, world.actions) == [story.Commit(2)]
    *_, announced = of(story.Announce, world.actions)
    assert announced == story.Announce("HUP: reloaded, generation 2", 3)
    world.leave()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]


def reload(world: World, plan: Plan = PLAN) -> None:
    world.signal("HUP")
    world.tell(story.SettingsLoaded(plan))


def test_hup_with_a_broken_app_keeps_the_old_generation() -> None:
    world = World()
    before = [worker.pid for worker in world.workers(Phase.SERVING)]
    for attempt in range(10):
        reload(world)
        canary = world.workers(Phase.BOOTING)[0]
        world.tell(story.BootFailed(canary.serial, "SyntaxError: invalid syntax"))
        actions = world.exit(canary, "exit status 3", after=0.1)
        assert of(story.Discard, actions) == [story.Discard(2)]
        assert len(of(story.Log, actions)) == 1
        assert "SyntaxError" in logged(actions, "error")
        assert "STATUS=reload refused" in str(of(story.Notify, actions)), attempt
    assert [worker.pid for worker in world.workers(Phase.SERVING)] == before
    assert not of(story.Commit, world.actions)
    assert not of(story.Tell, world.actions)
    reload(world)
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]


def test_a_canary_that_hangs_is_killed_at_the_boot_deadline_of_its_own_generation() -> None:
    world = World()
    reload(world, Plan(workers=3, boot_timeout=5.0, graceful_timeout=30.0))
    canary = world.workers(Phase.BOOTING)[0]
    assert of(story.Kill, world.tick(5.0)) == [abort(canary)]
    assert of(story.Kill, world.tick(1.0)) == [kill(canary)]
    assert not of(story.Commit, world.tell(story.Ready(canary.serial)))  # its word came too late
    actions = world.exit(canary, "SIGKILL")
    assert of(story.Discard, actions) == [story.Discard(2)]
    assert "reload refused" in logged(actions, "error")
    assert wording.BOOT_DEADLINE in logged(actions, "error")
    assert world.serving() == [(0, 1), (1, 1), (2, 1)]


def test_hup_with_bad_settings_changes_nothing() -> None:
    world = World()
    world.signal("HUP")
    actions = world.tell(story.SettingsRefused("workers: 'x' is not a whole number"))
    assert "workers: 'x'" in logged(actions, "error")
    assert not of(story.Spawn, actions)
    assert world.serving() == [(0, 1), (1, 1), (2, 1)]


def test_a_second_hup_is_remembered_once() -> None:
    world = World()
    world.signal("HUP")
    for _ in range(5):
        world.signal("HUP")
    world.tell(story.SettingsLoaded(PLAN))
    world.signal("HUP")
    world.retire()
    assert of(story.LoadSettings, world.actions) == [story.LoadSettings(2), story.LoadSettings(3)]
    world.tell(story.SettingsLoaded(PLAN))
    world.retire()
    assert world.serving() == [(0, 3), (1, 3), (2, 3)]
    assert len(of(story.LoadSettings, world.actions)) == 2


def test_hup_during_the_first_boot_waits_for_it() -> None:
    world = World(up=False)
    assert world.signal("HUP") == [story.Log("info", wording.HUP_NOTED)]
    assert of(story.LoadSettings, world.tell(story.Ready(1)))


@pytest.mark.parametrize("boots", [True, False])
def test_hup_while_the_canary_boots_is_noted_and_served_afterwards(boots: bool) -> None:
    world = World()
    reload(world)
    (canary,) = world.workers(Phase.BOOTING)
    assert world.signal("HUP", 1.0) == [story.Log("info", wording.HUP_NOTED)]
    assert not of(story.LoadSettings, world.tick(10.0))
    if boots:
        world.retire()
        assert story.LoadSettings(3) in world.actions
    else:
        assert story.LoadSettings(2) in world.exit(canary, "exit status 3")
    world.tell(story.SettingsLoaded(PLAN))
    world.retire()
    newest = 3 if boots else 2
    assert world.serving() == [(0, newest), (1, newest), (2, newest)]
    assert world.supervisor.reload is Reload.NONE


def stuck_rollout() -> World:
    """The canary has proved generation 2, but no other worker of it boots: one is trying."""
    world = World()
    reload(world)
    world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial))
    for _ in range(8):
        world.exit(world.workers(Phase.BOOTING)[0], "exit status 3")
        world.tick(30.0)
    assert len(world.workers(Phase.BOOTING)) == 1
    assert world.serving() == [(0, 2), (1, 1), (2, 1)]
    return world


def fail_to_boot(world: World) -> list[Action]:
    (successor,) = world.workers(Phase.BOOTING)
    return world.exit(successor, "exit status 3")


def test_hup_repairs_a_rollout_that_is_stuck() -> None:
    world = stuck_rollout()
    fail_to_boot(world)
    fail_to_boot(world)
    assert not world.workers(Phase.BOOTING)  # both slots have to wait
    assert story.LoadSettings(3) in world.signal("HUP")
    actions = world.tell(story.SettingsLoaded(PLAN))
    assert [(item.slot, item.generation) for item in of(story.Spawn, actions)] == [(0, 3)]
    assert not of(story.Spawn, world.tick(59.0))  # of generation 2, meanwhile
    world.retire()
    assert world.serving() == [(0, 3), (1, 3), (2, 3)]
    assert of(story.Commit, world.actions) == [story.Commit(2), story.Commit(3)]
    *_, announced = of(story.Announce, world.actions)
    assert announced == story.Announce("HUP: reloaded, generation 3", 3)


def test_hup_in_a_rollout_that_is_stuck_does_not_wait_for_the_attempts_of_other_slots() -> None:
    world = stuck_rollout()
    assert world.signal("HUP") == [story.Log("info", wording.HUP_NOTED)]
    assert not of(story.Spawn, world.tick(50.0))
    actions = fail_to_boot(world)
    assert of(story.LoadSettings, actions) == [story.LoadSettings(3)]
    assert not of(story.Spawn, actions)


def test_a_repair_that_is_refused_leaves_the_rollout_where_it_was() -> None:
    world = stuck_rollout()
    world.signal("HUP")
    fail_to_boot(world)
    actions = world.tell(story.SettingsRefused("bad"))
    assert of(story.Discard, actions) == [story.Discard(3)]
    assert "generation 2 goes on" in logged(actions, "error")
    assert not of(story.Announce, actions)
    world.tick(30.0)
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]
    *_, announced = of(story.Announce, world.actions)
    assert announced == story.Announce("HUP: reloaded, generation 2", 3)


def test_hup_in_a_rollout_that_goes_well_waits_for_its_end() -> None:
    world = World()
    reload(world)
    world.signal("HUP")
    world.boot()
    *_, announced, last = (
        a for a in world.actions if isinstance(a, story.Announce | story.LoadSettings)
    )
    assert announced == story.Announce("HUP: reloaded, generation 2", 3)
    assert last == story.LoadSettings(3)


def test_a_refused_reload_is_not_announced_because_of_those_that_still_leave() -> None:
    world = World()
    reload(world)
    world.boot()
    assert world.workers(Phase.RETIRING)  # of generation 1, in long requests
    world.signal("HUP")
    actions = world.tell(story.SettingsRefused("bad"))
    assert not of(story.Announce, actions)
    assert [item.lines for item in of(story.Notify, actions)] == [
        ("READY=1", "STATUS=reload refused: bad")
    ]


def crowd(world: World) -> list[Worker]:
    """Take every row that is left with workers that finish long requests."""
    roster = world.supervisor.roster
    added = []
    while worker := roster.add(9, 1, world.now + 1e6, successor=False):
        worker.phase = Phase.RETIRING
        worker.pid = pid_of(worker.serial)
        added.append(worker)
    return added


def test_without_a_free_row_a_slot_waits_a_second() -> None:
    world = World()
    left = crowd(world)
    assert not of(story.Spawn, world.signal("TTIN"))
    assert world.supervisor.next_deadline() == world.now + 1.0
    assert not of(story.Spawn, world.tick(1.5))
    world.exit(left[0])
    assert [(item.slot, item.row) for item in of(story.Spawn, world.tick(1.0))] == [
        (3, left[0].row)
    ]


def test_without_a_free_row_a_reload_is_refused() -> None:
    world = World()
    left = crowd(world)
    world.signal("HUP")
    actions = world.tell(story.SettingsLoaded(PLAN))
    assert of(story.Discard, actions) == [story.Discard(2)]
    assert wording.NO_ROOM in logged(actions, "error")
    assert not of(story.Spawn, actions)
    assert world.supervisor.reload is Reload.NONE
    world.exit(left[0])
    reload(world)
    world.boot()
    assert (0, 2) in world.serving()


def test_without_a_free_row_nobody_retires_for_a_successor() -> None:
    world = World()
    left = crowd(world)
    due = world.workers(Phase.SERVING)[1]
    assert not of(story.Spawn, world.tell(story.Due(due.serial, 50)))
    assert world.supervisor.next_deadline() == world.now + 1.0
    world.exit(left[0])
    assert [item.slot for item in of(story.Spawn, world.tick(1.0))] == [1]
    assert due in world.workers(Phase.SERVING)


def test_a_worker_that_dies_while_the_canary_boots_is_replaced_by_its_own_generation() -> None:
    world = World()
    reload(world)
    actions = world.exit(world.workers(Phase.SERVING)[1], "SIGKILL", after=10.0)
    assert [(item.slot, item.generation) for item in of(story.Spawn, actions)] == [(1, 1)]
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]


def test_a_predecessor_that_dies_while_the_canary_boots() -> None:
    world = World()
    reload(world)
    world.exit(world.workers(Phase.SERVING)[0], "SIGKILL", after=10.0)
    assert len(world.workers(Phase.BOOTING)) == 2
    canary = next(w for w in world.workers(Phase.BOOTING) if w.generation == 2)
    actions = world.tell(story.Ready(canary.serial))
    assert of(story.Commit, actions)
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]


def test_a_successor_that_fails_while_rolling_is_tried_again_and_nobody_retires_for_it() -> None:
    world = World()
    reload(world)
    world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial))
    failing = world.workers(Phase.BOOTING)[0]
    assert failing.slot == 1
    actions = world.exit(failing, "exit status 3")
    assert not of(story.Tell, actions)
    assert world.serving() == [(0, 2), (1, 1), (2, 1)]
    world.tick(1.0)
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_reload_takes_the_number_of_workers_from_the_settings(count: int) -> None:
    world = World()
    world.signal("TTIN")
    world.boot()
    reload(world, Plan(count, 60.0, 30.0))
    world.retire()
    assert world.serving() == [(slot, 2) for slot in range(count)]


# ---- recycling


def test_a_worker_that_is_due_is_succeeded_one_at_a_time() -> None:
    world = World()
    for worker in world.workers(Phase.SERVING):
        world.tell(story.Due(worker.serial, 50))
    assert len(world.workers(Phase.BOOTING)) == 1
    assert len(world.workers(Phase.SERVING)) == 3
    first = world.workers(Phase.BOOTING)[0]
    actions = world.tell(story.Ready(first.serial))
    assert [item.message for item in of(story.Tell, actions)] == [Message.RETIRE]
    world.retire()
    assert world.serving() == [(0, 1), (1, 1), (2, 1)]
    assert {worker.serial for worker in world.workers(Phase.SERVING)} == {4, 5, 6}


@pytest.mark.parametrize("preload", [False, True])
def test_after_a_refused_reload_nobody_is_succeeded_by_what_was_refused(preload: bool) -> None:
    """With preload a successor has the code of its generation, whatever is on the disk."""
    plan = PLAN._replace(preload=preload)
    world = World(plan)
    world.signal("HUP")
    actions = world.tell(story.SettingsRefused("why"))
    assert ("Until then no worker is recycled" in logged(actions, "error")) is not preload
    worker = world.workers(Phase.SERVING)[0]
    world.tell(story.Due(worker.serial, 512))
    assert len(world.workers(Phase.BOOTING)) == preload
    world.retire()
    reload(world, plan)
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]
    world.tell(story.Due(world.workers(Phase.SERVING)[0].serial, 512))
    assert len(world.workers(Phase.BOOTING)) == 1


def test_a_worker_that_has_lost_a_thread_is_succeeded_even_then() -> None:
    world = World()
    world.signal("HUP")
    world.tell(story.SettingsRefused("why"))
    worker = world.workers(Phase.SERVING)[1]
    actions = world.tell(story.Stuck(worker.serial, "GET /slow HTTP/1.1"))
    assert "'GET /slow HTTP/1.1' holds one of its threads for ever" in logged(actions, "info")
    assert [item.slot for item in of(story.Spawn, actions)] == [1]
    assert not of(story.Tell, actions)  # it goes on until the successor is ready


def test_a_worker_that_dies_after_a_refused_reload_is_replaced_all_the_same() -> None:
    world = World()
    world.signal("HUP")
    world.tell(story.SettingsRefused("why"))
    world.exit(world.workers(Phase.SERVING)[0], "SIGKILL")
    assert len(world.workers(Phase.BOOTING)) == 1


def test_the_deadline_of_a_boot_counts_before_the_worker_is_forked() -> None:
    """With preload it goes by the pid of the template process until then."""
    world = World(PLAN._replace(workers=1, preload=True), up=False, forks=False)
    (serial,) = world.unforked
    world.tell(story.Forked(serial, pid_of(serial)))
    actions = world.tick(60.0)
    assert of(story.Kill, actions) == [story.Kill(serial, pid_of(serial), signal.SIGABRT)]


def test_the_log_says_why_a_worker_is_replaced_and_only_once() -> None:
    world = World()
    worker = world.workers(Phase.SERVING)[1]
    actions = world.tell(story.Due(worker.serial, 512))
    assert logged(actions, "info") == (
        "worker 1 gen 1 (pid 10002) is replaced: it has served 512 requests (`max_requests`)"
    )
    world.exit(world.workers(Phase.BOOTING)[0], "exit status 3")
    world.tick(1.0)
    world.retire()
    assert logged(world.actions, "info").count("is replaced: ") == 1
    assert world.serving() == [(0, 1), (1, 1), (2, 1)]


MORTAL = Plan(3, 60.0, 30.0, max_lifetime=1000.0)


def test_lifetimes_end_one_after_the_other_and_nobody_is_awake_for_it() -> None:
    world = World(MORTAL)
    began = world.now
    first = {worker.serial for worker in world.workers(Phase.SERVING)}
    ends = []
    while first & {worker.serial for worker in world.workers(Phase.SERVING)}:
        due = world.supervisor.next_deadline()
        assert due is not None
        actions = world.tick(due - world.now)
        assert len(of(story.Spawn, actions)) == 1, "it woke for nothing"
        ends.append(world.now - began)
        world.retire()
    assert len(ends) == 3
    assert all(900.0 <= end <= 1001.0 for end in ends)
    assert world.serving() == [(0, 1), (1, 1), (2, 1)]
    assert "it has served for its `max_lifetime`" in logged(world.actions, "info")


def test_a_successor_that_does_not_boot_costs_nobody_who_serves() -> None:
    world = World(MORTAL)
    for _ in range(20):
        world.tick(100.0)
        for worker in world.workers(Phase.BOOTING):
            world.exit(worker, "exit status 3")
    assert len(world.serving()) == 3
    world.tick(31.0)
    world.retire()
    assert len(world.serving()) == 3


def test_slots_that_are_due_soon_again_do_not_keep_the_others_waiting() -> None:
    world = World()
    for worker in world.workers(Phase.SERVING):
        world.tell(story.Due(worker.serial, 1), 0.1)
    order = []
    for _ in range(9):
        (successor,) = world.workers(Phase.BOOTING)
        order.append(successor.slot)
        world.tell(story.Ready(successor.serial), 0.1)
        world.tell(story.Due(successor.serial, 1), 0.1)  # its limit is low
        world.leave()
    assert order == [0, 1, 2] * 3


HEAVY = Plan(3, 60.0, 30.0, max_rss=100 << 20, memory=1 << 30)


def weigh(world: World, mebis: int) -> list[Action]:
    """Everyone who serves holds so much."""
    actions: list[Action] = []
    for worker in world.workers(Phase.SERVING):
        actions += world.tell(story.Weighed(worker.serial, mebis << 20))
    return actions


def test_workers_that_hold_too_much_are_succeeded_one_at_a_time() -> None:
    world = World(HEAVY)
    world.now += 60.0
    assert weigh(world, 100) == []
    actions = weigh(world, 101)
    assert [item.slot for item in of(story.Spawn, actions)] == [0]
    assert not of(story.Tell, actions)
    for slot in range(3):
        (successor,) = world.workers(Phase.BOOTING)
        assert successor.slot == slot
        told = of(story.Tell, world.tell(story.Ready(successor.serial), 1.0))
        assert [item.message for item in told] == [Message.RETIRE]
    assert (
        logged(world.actions, "info").count("it holds 101M of memory, and `max_rss` is 100M") == 3
    )


def test_workers_that_are_born_too_heavy_are_no_storm() -> None:
    world = World(HEAVY)
    begin = world.now
    for _ in range(7200):
        weigh(world, 150)
        world.tick(0.5)
        world.retire()
    births = len(of(story.Spawn, world.actions)) - 3
    assert births <= 3 * (7 + (world.now - begin) / 60.0)
    assert births >= 3 * 50
    assert logged(world.actions, "warning").count("has just become ready, and holds 150M") == 1
    reload(world, HEAVY)
    world.retire()
    weigh(world, 150)
    assert logged(world.actions, "warning").count("has just become ready, and holds 150M") == 2


# ---- more and fewer


ADAPTIVE = Plan(2, 60.0, 30.0, most=4)


def look(world: World, busy: int, seconds: float) -> list[Action]:
    """So many of those that serve run a call, in each look."""
    actions: list[Action] = []
    for _ in range(round(seconds * 10)):
        serials = [worker.serial for worker in world.workers(Phase.SERVING)]
        actions += world.tell(story.Looked(frozenset(serials[:busy]), 0), 0.1)
    return actions


def test_workers_come_and_go_with_the_load() -> None:
    world = World(ADAPTIVE)
    assert not of(story.Spawn, look(world, 1, 60.0))
    actions = look(world, 2, 1.2)
    assert [item.slot for item in of(story.Spawn, actions)] == [2]
    assert "no worker was idle for a second: from 2 to 3 workers" in logged(actions, "info")
    assert not of(story.Spawn, look(world, 3, 50.0)), "who boots may be enough"
    world.boot()
    assert [item.slot for item in of(story.Spawn, look(world, 3, 1.2))] == [3]
    world.boot()
    assert not of(story.Spawn, look(world, 4, 60.0))
    retired = of(story.Tell, world.tick(300.0))
    assert [item.message for item in retired] == [Message.RETIRE] * 2
    world.leave()
    assert world.serving() == [(0, 1), (1, 1)]
    assert world.supervisor.next_deadline() is None


def test_who_leaves_or_boots_does_not_count_as_busy_or_idle() -> None:
    world = World(ADAPTIVE)
    world.signal("TTIN")
    world.boot()
    world.signal("TTOU")
    serials = frozenset(worker.serial for worker in world.workers(*Phase))
    assert len(serials) == 3
    for _ in range(12):
        actions = world.tell(story.Looked(serials, 0), 0.1)
    assert [item.slot for item in of(story.Spawn, actions + world.actions[-5:])] == [2]


def test_a_reload_under_load_keeps_the_workers_that_the_load_has_brought() -> None:
    world = World(ADAPTIVE)
    look(world, 2, 1.2)
    world.boot()
    assert len(world.serving()) == 3
    reload(world, ADAPTIVE)
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]


def test_looks_before_and_after_the_server_is_up_change_nothing() -> None:
    world = World(ADAPTIVE, up=False)
    assert look(world, 2, 5.0) == []
    world.boot()
    world.signal("TERM")
    assert look(world, 2, 5.0) == []


def test_ttin_and_ttou() -> None:
    world = World()
    assert [item.slot for item in of(story.Spawn, world.signal("TTIN"))] == [3]
    world.boot()
    actions = world.signal("TTOU")
    assert [item.message for item in of(story.Tell, actions)] == [Message.RETIRE]
    world.leave()
    assert len(world.serving()) == 3
    for _ in range(5):
        world.signal("TTOU")
        world.leave()
    assert world.serving() == [(0, 1)]
    assert logged(world.actions, "warning") == "\n".join(
        ["TTOU: 1 worker is the bound, nothing changes"] * 3
    )


def test_ttin_has_a_bound() -> None:
    world = World(Plan(MOST_WORKERS - 1, 60.0, 30.0), up=False)
    world.tell(story.Ready(1))
    assert [item.slot for item in of(story.Spawn, world.signal("TTIN"))] == [MOST_WORKERS - 1]
    assert world.signal("TTIN") == [
        story.Log("warning", f"TTIN: {MOST_WORKERS} workers is the bound, nothing changes")
    ]


def test_winch_retires_all_and_keeps_the_master() -> None:
    world = World()
    actions = world.signal("WINCH")
    assert [item.message for item in of(story.Tell, actions)] == [Message.RETIRE] * 3
    world.leave()
    assert world.serving() == []
    assert not of(story.Exit, world.actions)
    assert world.supervisor.next_deadline() is None
    world.signal("TTIN")
    world.boot()
    assert world.serving() == [(0, 1)]
    world.signal("WINCH")
    world.leave()
    reload(world)
    world.retire()
    assert world.serving() == [(0, 2), (1, 2), (2, 2)]


# ---- the end


def test_term_lets_everyone_finish() -> None:
    world = World()
    actions = world.signal("TERM")
    assert [item.message for item in of(story.Tell, actions)] == [Message.STOP] * 3
    assert of(story.StopListening, actions)
    assert "STOPPING=1" in of(story.Notify, actions)[0].lines
    first, *others = world.workers(Phase.RETIRING)
    assert not of(story.Exit, world.exit(first))
    for worker in others:
        world.exit(worker)
    assert of(story.Exit, world.actions) == [story.Exit(0)]
    assert len(of(story.Spawn, world.actions)) == 3


def test_term_kills_who_does_not_finish_in_time() -> None:
    world = World()
    world.signal("TERM")
    slow = world.workers(Phase.RETIRING)[0]
    for worker in world.workers(Phase.RETIRING)[1:]:
        world.exit(worker)
    assert not of(story.Kill, world.tick(29.9))
    assert of(story.Kill, world.tick(0.2)) == [kill(slow)]
    assert "`graceful_timeout`" in logged(world.actions, "warning")
    assert of(story.Exit, world.exit(slow, "SIGKILL")) == [story.Exit(0)]


@pytest.mark.parametrize("name", ["INT", "QUIT"])
def test_int_and_quit_stop_quickly(name: str) -> None:
    world = World()
    actions = world.signal(name)
    assert [item.message for item in of(story.Tell, actions)] == [Message.QUIT] * 3
    assert len(of(story.Kill, world.tick(1.0))) == 3
    world.leave()
    assert of(story.Exit, world.actions) == [story.Exit(0)]


def test_a_second_term_stops_quickly_and_a_third_kills() -> None:
    world = World()
    world.signal("TERM")
    assert [item.message for item in of(story.Tell, world.signal("TERM"))] == [Message.QUIT] * 3
    assert len(of(story.Kill, world.signal("TERM"))) == 3


def test_nobody_is_killed_before_its_pid_is_known() -> None:
    world = World(up=False, forks=False)
    for name in ("TERM", "INT", "INT"):
        assert not of(story.Kill, world.signal(name))  # kill(2) takes 0 for everyone
    assert not of(story.Kill, world.tick(1000.0))
    assert [item.pid for item in of(story.Kill, world.fork())] == [10001, 10002, 10003]
    for worker in world.workers(*Phase):
        world.exit(worker, "SIGKILL")
    assert of(story.Exit, world.actions) == [story.Exit(0)]


def test_term_during_the_boot_leaves_no_orphan() -> None:
    world = World(up=False)
    actions = world.signal("TERM")
    assert len(of(story.Kill, actions)) == 3
    for worker in world.workers(Phase.BOOTING):
        world.exit(worker, "SIGKILL")
    assert of(story.Exit, world.actions) == [story.Exit(0)]
    assert logged(world.actions, "error") == ""


def test_term_wins_over_a_reload() -> None:
    for ready in (False, True):
        world = World()
        reload(world)
        if ready:
            world.tell(story.Ready(world.workers(Phase.BOOTING)[0].serial))
        world.signal("TERM")
        assert of(story.Exit, world.actions) == []
        for worker in world.workers(*Phase):
            world.exit(worker)
        assert of(story.Exit, world.actions) == [story.Exit(0)]


def test_settings_that_arrive_after_term_are_discarded() -> None:
    world = World()
    world.signal("HUP")
    world.signal("TERM")
    actions = world.tell(story.SettingsLoaded(PLAN))
    assert of(story.Discard, actions) == [story.Discard(2)]
    assert not of(story.Spawn, actions)


def test_a_worker_that_becomes_ready_after_term_changes_nothing() -> None:
    world = World(up=False)
    world.signal("TERM")
    assert not of(story.Announce, world.tell(story.Ready(1)))
    assert not of(story.Spawn, world.actions[3:])


# ---- stuck calls


def test_an_overdue_call_is_aborted_and_its_worker_replaced() -> None:
    world = World()
    stuck = world.workers(Phase.SERVING)[1]
    actions = world.tell(story.CallOverdue(stuck.serial, 30.2, "GET /stuck HTTP/1.1"))
    assert abort(stuck) in actions
    assert [item.slot for item in of(story.Spawn, actions)] == [1]
    text = logged(actions, "error")
    assert "'GET /stuck HTTP/1.1'" in text
    assert "30.2 s" in text
    assert "`timeout`" in text
    assert not world.tell(story.CallOverdue(stuck.serial, 30.3, "GET /stuck HTTP/1.1"))
    assert of(story.Kill, world.tick(1.0)) == [kill(stuck)]
    assert logged(world.exit(stuck, "SIGKILL"), "error") == ""


def test_a_worker_that_does_not_answer_is_aborted_and_replaced() -> None:
    world = World()
    silent = world.workers(Phase.SERVING)[1]
    actions = world.tell(story.CallOverdue(silent.serial, 31.2, ""))
    assert abort(silent) in actions
    assert [item.slot for item in of(story.Spawn, actions)] == [1]
    assert "is in no request, and has not answered for 31.2 s" in logged(actions, "error")
    assert of(story.Kill, world.tick(1.0)) == [kill(silent)]


def test_a_retiring_worker_can_be_overdue_too() -> None:
    world = World()
    world.signal("TTOU")
    stuck = world.workers(Phase.RETIRING)[0]
    actions = world.tell(story.CallOverdue(stuck.serial, 31.0, "GET / HTTP/1.1"))
    assert of(story.Kill, actions) == [abort(stuck)]
    assert not of(story.Spawn, actions)


def test_nobody_is_killed_because_the_master_was_asleep() -> None:
    world = World()
    reload(world)
    world.signal("TTOU")
    (canary,) = world.workers(Phase.BOOTING)
    (retiring,) = world.workers(Phase.RETIRING)
    stuck = world.workers(Phase.SERVING)[1]
    world.tell(story.CallOverdue(stuck.serial, 30.0, "GET / HTTP/1.1"))
    replacement = world.workers(Phase.BOOTING)[1]
    asleep = world.now + 0.5
    world.now = asleep + 100.0
    assert not of(story.Kill, world.tell(story.Overslept(100.0)))
    assert not of(story.Kill, world.tick(0.4))
    assert of(story.Kill, world.tick(0.2)) == [kill(stuck)]
    assert of(story.Kill, world.tick(29.0)) == [kill(retiring)]
    assert of(story.Kill, world.tick(30.0)) == [abort(canary), abort(replacement)]


# ---- the rest


def test_usr1_reopens_the_logs_of_all() -> None:
    world = World()
    actions = world.signal("USR1")
    assert of(story.ReopenLogs, actions)
    assert [item.message for item in of(story.Tell, actions)] == [Message.REOPEN] * 3


def test_a_successor_that_serves_lets_all_retire() -> None:
    world = World()
    booting = world.workers(Phase.SERVING)[0]
    world.exit(booting, "SIGKILL", after=5.0)
    actions = world.tell(story.Succeeded(99))
    assert [item.message for item in of(story.Tell, actions)] == [Message.RETIRE] * 2
    assert len(of(story.Kill, actions)) == 1  # the one that boots
    assert "process 99 serves now" in of(story.Log, actions)[0].text
    assert world.signal("HUP") == []
    for worker in world.workers(Phase.RETIRING, Phase.BOOTING):
        actions = world.exit(worker)
    assert of(story.Exit, actions) == [story.Exit(0)]


def test_words_from_the_dead_are_ignored() -> None:
    world = World()
    for event in (story.Ready(99), story.BootFailed(99, "x"), story.Due(99, 50), story.Weighed(99, 1 << 40),
                  story.Leaving(99), story.CallOverdue(99, 1.0, "x")):  # fmt: skip
        assert world.tell(event) == []


def test_an_idle_master_waits_for_nothing() -> None:
    assert World().supervisor.next_deadline() is None


def test_a_storm_of_signals_converges() -> None:
    world = World()
    for number in range(1000):
        world.signal(("HUP", "TTIN", "TTOU", "USR1", "WINCH", "TTIN", "TTIN")[number % 7], 0.001)
        if world.supervisor.reload is Reload.LOADING:
            world.tell(story.SettingsLoaded(PLAN))
        if number % 3 == 0:
            world.leave()
        if number % 5 == 0:
            world.boot()
    world.signal("HUP")
    for _ in range(10):
        if world.supervisor.reload is Reload.LOADING:
            world.tell(story.SettingsLoaded(PLAN))
        world.retire()
    newest = world.supervisor.generation
    assert world.serving() == [(0, newest), (1, newest), (2, newest)]
    world.signal("TERM")
    world.leave()
    assert of(story.Exit, world.actions) == [story.Exit(0)]


def some_event(world: World, chance: random.Random) -> Event:
    """What may happen next to ``world``."""
    if world.supervisor.reload is Reload.LOADING and chance.random() < 0.5:
        least = chance.randrange(1, 5)
        lifetime = chance.choice((None, 1.0, 100.0))
        rss = chance.choice((None, 100 << 20))
        most = chance.randrange(1, 9)
        plan = Plan(least, 60.0, 30.0, most, 5.0, lifetime, rss, 300 << 20)
        return chance.choice((story.SettingsLoaded(plan), story.SettingsRefused("bad")))
    if world.unforked and chance.random() < 0.5:
        serial = world.unforked.pop(0)
        if chance.random() < 0.2:
            return story.ForkFailed(serial, "no memory")
        return story.Forked(serial, pid_of(serial))
    forked = [worker for worker in world.workers(*Phase) if worker.pid]
    if not forked or chance.random() < 0.3:
        name = chance.choice(("HUP", "HUP", "TTIN", "TTOU", "USR1", "USR2", "WINCH"))
        busy = frozenset(it.serial for it in forked if chance.random() < 0.9)
        looked = story.Looked(busy, chance.randrange(3))
        saved = story.Changed("a.py has changed")
        tick = chance.choice((story.Tick(), story.Overslept(2.0), looked, looked, saved))
        return chance.choice((tick, story.SignalCame(getattr(signal, f"SIG{name}"))))
    worker = chance.choice(forked)
    status, how = chance.choice(((0, "exit status 0"), (3, "exit status 3"), (-9, "SIGKILL")))
    events: list[Event] = [story.Exited(worker.serial, status, how, None)]
    if worker.phase is Phase.BOOTING:
        events += [story.Ready(worker.serial)] * 3 + [story.BootFailed(worker.serial, "x")]
    else:
        events += [story.Due(worker.serial, 50), story.Leaving(worker.serial),
                   story.Weighed(worker.serial, chance.randrange(50, 150) << 20),
                   story.CallOverdue(worker.serial, 31.0, "GET / HTTP/1.1")]  # fmt: skip
    return chance.choice(events)


@pytest.mark.parametrize("name", ["TERM", "INT"])
@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_the_rules_hold_and_it_ends_well(seed: int, name: str) -> None:
    chance = random.Random(seed)
    world = World()
    world.forks = False
    for _ in range(500):
        world.tell(some_event(world, chance), chance.choice((0.0, 0.01, 0.4, 1.0, 20.0)))
    world.forks = True
    world.fork()
    world.signal("HUP")
    for _ in range(10):
        if world.supervisor.reload is Reload.LOADING:
            world.tell(story.SettingsLoaded(PLAN))
        world.retire()
        world.tick(31.0)
    newest = world.supervisor.generation
    assert world.serving() == [(0, newest), (1, newest), (2, newest)]
    assert (world.supervisor.life, world.supervisor.reload) == (Life.UP, Reload.NONE)
    assert world.supervisor.next_deadline() is None
    world.signal(name)
    world.leave()
    assert of(story.Exit, world.actions) == [story.Exit(0)]


def test_a_request_that_a_leaving_worker_took_with_it_is_told() -> None:
    world = World()
    (first, *_) = world.workers(Phase.SERVING)
    world.tell(story.Leaving(first.serial))
    actions = world.exit(first, "exit status 0", "GET / HTTP/1.1")
    (line,) = [action for action in actions if isinstance(action, story.Log)]
    assert (line.level, "GET / HTTP/1.1" in line.text) == ("error", True)
