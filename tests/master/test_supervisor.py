"""The life of workers, told as stories to the pure supervisor: no process, no clock."""

import signal
from itertools import pairwise
from typing import TypeVar

import pytest

from forkserve.errors import EXIT_APPLICATION
from forkserve.master import story
from forkserve.master.roster import MOST_WORKERS, Phase, Worker
from forkserve.master.story import Action, Event, Plan
from forkserve.master.supervisor import Supervisor
from forkserve.proc.channel import Message

PLAN = Plan(workers=3, boot_timeout=60.0, graceful_timeout=30.0)


class World:
    """A supervisor, and the processes that it believes in."""

    def __init__(self, plan: Plan = PLAN, *, up: bool = True) -> None:
        self.supervisor = Supervisor(plan)
        self.now = 1000.0
        self.actions: list[Action] = []
        self.tell(story.Started())
        if up:
            self.boot()

    def tell(self, event: Event, after: float = 0.0) -> list[Action]:
        """What the supervisor does about ``event``; each fork succeeds at once."""
        self.now += after
        actions = self.supervisor.handle(event, self.now)
        for action in list(actions):
            if isinstance(action, story.Spawn):
                actions += self.supervisor.handle(
                    story.Forked(action.serial, 10000 + action.serial), self.now
                )
        self.actions += actions
        self.check()
        return actions

    def check(self) -> None:
        """What must hold after every event."""
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
        return self.tell(story.Exited(worker.serial, how, request), after)

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
    actions = world.tick(60.0)
    assert story.Kill(first.serial, signal.SIGKILL) in actions
    actions = world.exit(first, "SIGKILL")
    assert "`boot_timeout`" in logged(actions, "error")


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


def test_a_client_cannot_forge_a_line_through_the_request_in_the_log() -> None:
    world = World()
    actions = world.exit(world.workers(Phase.SERVING)[0], "SIGSEGV", "GET /\x1b[31m\x9b HTTP/1.1")
    assert "\x1b" not in logged(actions)
    assert "\x9b" not in logged(actions)


def deaths_in(world: World, seconds: float, lives: float) -> list[float]:
    """Times at which slot 0 is filled, if each worker in it dies ``lives`` after it is ready."""
    end = world.now + seconds
    times = []
    while world.now < end:
        mine = next((w for w in world.workers(Phase.SERVING) if w.slot == 0), None)
        if mine is not None:
            world.exit(mine, "exit status 1", after=lives)
        else:
            due = world.supervisor.next_deadline()
            assert due is not None
            world.tick(due - world.now)
        for worker in world.workers(Phase.BOOTING):
            times.append(world.now)
            world.tell(story.Ready(worker.serial))
    return [time for time in times if time <= end]


@pytest.mark.parametrize("lives", [0.0, 0.1, 1.0, 1.49])
def test_a_crash_loop_is_slowed_down_to_one_in_thirty_seconds(lives: float) -> None:
    world = World()
    begin = world.now
    times = deaths_in(world, 600.0, lives)
    for start in times:
        assert len([time for time in times if start <= time < start + 10.0]) <= 7
    late = [time for time in times if time > begin + 300.0]
    assert len(late) <= 10 + 1


def test_a_worker_that_lives_a_while_is_always_replaced_at_once() -> None:
    world = World()
    times = deaths_in(world, 100.0, 2.0)
    assert all(abs(b - a - 2.0) < 0.01 for a, b in pairwise(times))
    for start in times:
        assert len([time for time in times if start <= time < start + 10.0]) <= 7


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
    assert "reloaded, generation 2" in logged(world.actions)
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
    assert story.Kill(canary.serial, signal.SIGKILL) in world.tick(5.0)
    actions = world.exit(canary, "SIGKILL")
    assert "`boot_timeout`" in logged(actions, "error")
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
    assert not of(story.LoadSettings, world.signal("HUP"))
    assert of(story.LoadSettings, world.tell(story.Ready(1)))


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
        world.tell(story.Due(worker.serial))
    assert len(world.workers(Phase.BOOTING)) == 1
    assert len(world.workers(Phase.SERVING)) == 3
    first = world.workers(Phase.BOOTING)[0]
    actions = world.tell(story.Ready(first.serial))
    assert [item.message for item in of(story.Tell, actions)] == [Message.RETIRE]
    world.retire()
    assert world.serving() == [(0, 1), (1, 1), (2, 1)]
    assert {worker.serial for worker in world.workers(Phase.SERVING)} == {4, 5, 6}


# ---- more and fewer


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
    assert "bound" in logged(world.actions, "warning")


def test_ttin_has_a_bound() -> None:
    world = World(Plan(1, 60.0, 30.0))
    world.supervisor.wanted = MOST_WORKERS
    world.tell(story.Tick())
    world.boot()
    assert not of(story.Spawn, world.signal("TTIN"))


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
    assert of(story.Kill, world.tick(0.2)) == [story.Kill(slow.serial, signal.SIGKILL)]
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
    assert story.Kill(stuck.serial, signal.SIGABRT) in actions
    assert [item.slot for item in of(story.Spawn, actions)] == [1]
    text = logged(actions, "error")
    assert "'GET /stuck HTTP/1.1'" in text
    assert "30.2 s" in text
    assert "`timeout`" in text
    assert not world.tell(story.CallOverdue(stuck.serial, 30.3, "GET /stuck HTTP/1.1"))
    assert of(story.Kill, world.tick(1.0)) == [story.Kill(stuck.serial, signal.SIGKILL)]
    assert logged(world.exit(stuck, "SIGKILL"), "error") == ""


def test_a_retiring_worker_can_be_overdue_too() -> None:
    world = World()
    world.signal("TTOU")
    stuck = world.workers(Phase.RETIRING)[0]
    actions = world.tell(story.CallOverdue(stuck.serial, 31.0, "GET / HTTP/1.1"))
    assert of(story.Kill, actions) == [story.Kill(stuck.serial, signal.SIGABRT)]
    assert not of(story.Spawn, actions)


def test_nobody_is_killed_because_the_master_was_asleep() -> None:
    world = World()
    world.signal("TTOU")
    world.tell(story.Overslept(100.0), after=100.0)
    assert not of(story.Kill, world.tell(story.Tick()))
    assert of(story.Kill, world.tick(30.1))


# ---- the rest


def test_usr1_reopens_the_logs_of_all() -> None:
    world = World()
    actions = world.signal("USR1")
    assert of(story.ReopenLogs, actions)
    assert [item.message for item in of(story.Tell, actions)] == [Message.REOPEN] * 3


def test_words_from_the_dead_are_ignored() -> None:
    world = World()
    for event in (story.Ready(99), story.BootFailed(99, "x"), story.Due(99),
                  story.CallOverdue(99, 1.0, "x")):  # fmt: skip
        assert world.tell(event) == []


def test_an_idle_master_waits_for_nothing() -> None:
    assert World().supervisor.next_deadline() is None


def test_a_storm_of_signals_converges() -> None:
    world = World()
    for number in range(1000):
        world.signal(("HUP", "TTIN", "TTOU", "USR1", "WINCH", "TTIN", "TTIN")[number % 7], 0.001)
        if world.supervisor._loading:
            world.tell(story.SettingsLoaded(PLAN))
        if number % 3 == 0:
            world.leave()
        if number % 5 == 0:
            world.boot()
    world.signal("HUP")
    for _ in range(10):
        if world.supervisor._loading:
            world.tell(story.SettingsLoaded(PLAN))
        world.retire()
    newest = world.supervisor.generation
    assert world.serving() == [(0, newest), (1, newest), (2, newest)]
    world.signal("TERM")
    world.leave()
    assert of(story.Exit, world.actions) == [story.Exit(0)]
