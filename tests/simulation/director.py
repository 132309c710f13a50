"""Lets the plan's faults strike, and ends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import Process
from tests.simulation.plan import Strike, victim
from tests.simulation.publishing import KEYS

if TYPE_CHECKING:
    from tests.simulation.world import World

BACK_MS = (500, 20_000)
"""How long after its end a process is started again."""
LONG_AWAY = 20
"""How much longer both publishers stay away together than other faults last."""
DENIED_FACTOR = 8
"""How much longer nobody is signed in where that is not felt at once."""
CONNECTION_KINDS = frozenset(
    {"close", "reset", "silence", "mute", "lossy", "late", "repeat", "reorder", "bad_frame",
     "bad_payload", "malformed", "bad_values", "session_rate", "token_rejected"}
)  # fmt: skip


class Director:
    """Knows whom each fault befalls."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = world.loop
        self._rng = world.plan.rng("director")
        self._active = True

    def plan_strikes(self) -> None:
        """Let every fault of the plan strike in its time."""
        for strike in self._world.plan.strikes:
            self._loop.at(strike.at_ms, self._striking(strike))

    def _striking(self, strike: Strike) -> Callable[[], None]:
        def happen() -> None:
            if not self._active:
                return
            self._loop.trace.say(self._loop.now_ms, "fault", f"{strike.kind} {strike.length_ms} ms")
            if strike.kind in CONNECTION_KINDS:
                self._strike_connection(strike)
            else:
                getattr(self, f"_{strike.kind}")(strike)

        return happen

    def heal(self) -> None:
        """End all faults; who is gone comes back."""
        self._loop.trace.say(self._loop.now_ms, "fault", "none any more")
        world = self._world
        self._active = False
        world.service.heal()
        world.bus.heal()
        for process in self._processes():
            process.frozen_until_ms = min(process.frozen_until_ms, self._loop.now_ms)
            process.thawed()
        for consumer in world.consumers.values():
            consumer.faulty = False
        for place in world.publishers:
            world.start_publisher(place)
        for place in world.consumers:
            world.start_consumer(place)

    def _processes(self) -> list[Process]:
        world = self._world
        everybody: list[Process] = [*world.publishers.values(), *world.consumers.values()]
        return [process for process in everybody if process.alive]

    # TradingView.

    def _strike_connection(self, strike: Strike) -> None:
        standing = self._world.service.standing
        if standing:
            standing[victim(strike, standing)].strike(strike.kind, strike.length_ms)

    def _refuse(self, strike: Strike) -> None:
        service = self._world.service
        service.refuses_until_ms = self._loop.now_ms + strike.length_ms
        # It is felt only where somebody connects.
        for connection in service.standing:
            connection.close("connection reset by peer")

    def _signin_refused(self, strike: Strike) -> None:
        service = self._world.service
        if self._rng.random() < 0.5:
            # Until tokens end that could not be renewed.
            service.denies_until_ms = self._loop.now_ms + DENIED_FACTOR * strike.length_ms
            return
        service.denies_until_ms = self._loop.now_ms + strike.length_ms
        for connection in service.standing:
            connection.strike("token_rejected", 0)

    # Processes and machines.

    def _clock_jump(self, strike: Strike) -> None:
        process = self._victim(strike, self._processes())
        if process is not None:
            process.struck("clock_jump")
            process.skew_ms = (
                self._rng.choice((-1, 1)) * strike.length_ms * self._rng.choice((1, 90))
            )
            process.say(f"its clock is {process.skew_ms} ms ahead")

    def _publisher_frozen(self, strike: Strike) -> None:
        self._freeze(strike, list(self._world.publishers.values()))

    def _consumer_frozen(self, strike: Strike) -> None:
        self._freeze(strike, list(self._world.consumers.values()))

    def _freeze(self, strike: Strike, processes: list[Any]) -> None:
        process = self._victim(strike, [one for one in processes if one.alive])
        if process is not None:
            process.struck(strike.kind)
            process.freeze(strike.length_ms)

    def _publisher_killed(self, strike: Strike) -> None:
        self._end(strike, self._world.publishers, self._world.start_publisher, "kill")

    def _publisher_stopped(self, strike: Strike) -> None:
        self._end(strike, self._world.publishers, self._world.start_publisher, "stop")

    def _consumer_killed(self, strike: Strike) -> None:
        self._end_consumer(strike, "kill")

    def _consumer_stopped(self, strike: Strike) -> None:
        self._end_consumer(strike, "stop")

    def _end_consumer(self, strike: Strike, how: str) -> None:
        # The world starts it again.
        process = self._victim(strike, [x for x in self._world.consumers.values() if x.alive])
        if process is not None:
            process.struck(strike.kind)
            getattr(process, how)()

    def _end(
        self,
        strike: Strike,
        processes: dict[str, Any],
        start: Callable[[str], None],
        how: str,
    ) -> None:
        places = [place for place, process in processes.items() if process.alive]
        if places:
            place = places[victim(strike, places)]
            getattr(processes[place], how)()
            if not processes[place].alive:
                processes[place].struck(strike.kind)
                self._loop.after(self._rng.randrange(*BACK_MS), lambda: start(place))

    def _all_publishers_killed(self, strike: Strike) -> None:
        world = self._world
        for place, process in world.publishers.items():
            if process.alive:
                process.struck(strike.kind)
                process.kill()
                away_ms = LONG_AWAY * strike.length_ms
                self._loop.after(away_ms, self._starting(place))

    def _starting(self, place: str) -> Callable[[], None]:
        return lambda: self._world.start_publisher(place)

    def _victim(self, strike: Strike, processes: list[Any]) -> Any:
        return processes[victim(strike, processes)] if processes else None

    # The bus.

    def _bus_away(self, strike: Strike) -> None:
        bus = self._world.bus
        bus.away_until_ms = max(bus.away_until_ms, self._loop.now_ms + strike.length_ms)
        bus.epoch += 1

    def _partition(self, strike: Strike) -> None:
        process = self._victim(strike, self._processes())
        if process is not None:
            parted = self._world.bus.parted_until_ms
            parted[process.name] = self._loop.now_ms + strike.length_ms

    def _read_only(self, strike: Strike) -> None:
        self._world.bus.read_only_until_ms = self._loop.now_ms + strike.length_ms

    def _out_of_memory(self, strike: Strike) -> None:
        self._world.bus.full_until_ms = self._loop.now_ms + strike.length_ms

    def _scripts_flushed(self, strike: Strike) -> None:
        self._world.bus.flush_scripts()

    def _flushed(self, strike: Strike) -> None:
        self._world.bus.flush()

    def _evicted(self, strike: Strike) -> None:
        """The server makes room: the stream of one series goes, with the groups that read it."""
        series = self._world.plan.series[victim(strike, self._world.plan.series)]
        self._world.bus.evict(KEYS.bars(series))

    def _failed_over(self, strike: Strike) -> None:
        bus = self._world.bus
        bus.keep()
        self._loop.after(strike.length_ms, lambda: bus.fail_over(strike.length_ms // 10))

    def _alien(self, strike: Strike) -> None:
        """Somebody else writes what is no bar to a stream."""
        world = self._world
        series = world.plan.series[victim(strike, world.plan.series)]
        stream = world.checker.streams[series]
        if stream.newest is not None:
            world.bus.struck("alien")
            entry_id = f"{stream.last_id[0] + 1}-0"
            world.bus.client.xadd(KEYS.bars(series), {"note": "hello"}, id=entry_id)
            world.checker.read_bars(series)
