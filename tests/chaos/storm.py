"""Lets a plan's faults happen to the processes, and ends each of them in time.

What is struck is left alone until it is whole again; a fault whose victim is not
whole is skipped and counted, so a seed draws the same plan on every machine.
"""

from __future__ import annotations

import heapq
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

import redis

from publisher.simulator import Kind
from tests.chaos.plan import Planned
from tests.chaos.rig import CONSUMER, PUBLISHERS, USER, ChaosRig
from tests.chaos.witness import Witness

TURN_S: Final = 0.05
SAMPLE_S: Final = 0.5
STOP_S_MAX: Final = 20.0
"""How long a process may take to end when told to, also while the bus is away."""
YOUNG_S: Final = 5.0
"""A process that is told to end sooner may not yet have learned to do it in order."""
TAKE_OVER_S_MAX: Final = 60.0
SKEW_MS: Final = 20_000
"""Less than the settle time at this speed: more is a lie that nothing can see through."""
CONNECTION_KINDS: Final = frozenset(
    (
        *("close", "reset", "mute", "late", "repeat", "corrupt", "truncate", "invalid_utf8"),
        *("silence", "huge", "nan", "placeholder", "reversed", "session_rate", "bad_token"),
    )
)
HANDSHAKE_KINDS: Final = ("throttle", "forbid")
WEB_KINDS: Final = ("web_error", "web_throttle", "slow_web")
REDIS: Final = "redis"


class Storm:
    """One run's faults; used by one thread."""

    def __init__(self, rig: ChaosRig, witness: Witness) -> None:
        self._rig = rig
        self._witness = witness
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._struck: set[str] = set()
        self._sizes: deque[tuple[float, int]] = deque(maxlen=40)
        self._sampled_s = 0.0
        self._killed: tuple[float, str, bytes] | None = None
        self.injected: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.take_overs_s: list[float] = []
        """After each kill -9 of the active publisher, until another process held the lease."""
        self.disturbed = 0
        """Kills after which something else was struck before the lease was taken over."""
        self.faults: list[str] = []
        """What the processes did that they must not."""
        self.started_s: dict[str, float] = {}
        self.log: list[str] = []

    def begin(self) -> None:
        """Start all processes."""
        for name in (*PUBLISHERS, CONSUMER):
            self._start(name)

    def run(
        self, plan: Sequence[Planned], length_s: float, on_turn: Callable[[float], None]
    ) -> None:
        """Let the plan happen; `on_turn` is told the seconds since the beginning."""
        begun_s = time.monotonic()
        waiting = deque(plan)
        while (past_s := time.monotonic() - begun_s) < length_s:
            while waiting and waiting[0].at_s <= past_s:
                self._strike(waiting.popleft(), past_s)
            self._turn()
            on_turn(past_s)
            time.sleep(TURN_S)

    def calm(self) -> None:
        """End all faults and wait until everything that was struck is whole again."""
        end_s = time.monotonic() + TAKE_OVER_S_MAX
        while (self._struck or self._later) and time.monotonic() < end_s:
            self._turn()
            time.sleep(TURN_S)
        self._rig.simulator.faults.clear()
        self._rig.line.clear()
        if self._struck:
            self.faults.append(f"never whole again: {', '.join(sorted(self._struck))}")

    def active(self) -> str:
        """Return the publisher that holds the lease, empty where none does."""
        return self._rig.holder()

    # Time.

    def _turn(self) -> None:
        now_s = time.monotonic()
        while self._later and self._later[0][0] <= now_s:
            heapq.heappop(self._later)[2]()
        self._look_for_the_dead()
        self._look_for_take_over(now_s)
        if now_s >= self._sampled_s + SAMPLE_S:
            self._sampled_s = now_s
            if REDIS not in self._struck:
                self._sizes.append((now_s, self._rig.server_tail().stat().st_size))

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._later, (time.monotonic() + delay_s, self._numbers, action))

    def _look_for_the_dead(self) -> None:
        for name in self._rig.named:
            if name in self._struck:
                continue
            code = self._rig.exit_code(name)
            if code is not None:
                self.faults.append(f"{name} ended by itself with exit code {code}")
                self._start(name)

    def _look_for_take_over(self, now_s: float) -> None:
        if self._killed is None:
            return
        killed_s, killed, held = self._killed
        if REDIS in self._struck or _other(killed) in self._struck:
            self.disturbed += 1
            self._killed = None
        elif self._rig.held_by() not in {b"", held}:
            self.take_overs_s.append(now_s - killed_s)
            self._killed = None
        elif now_s - killed_s > TAKE_OVER_S_MAX:
            self.faults.append(f"nobody took over within {TAKE_OVER_S_MAX:.0f} s")
            self._killed = None

    # Faults.

    def _strike(self, planned: Planned, past_s: float) -> None:
        kind, amount = planned.kind, planned.amount
        action, _, role = kind.partition("_")
        try:
            if action in {"kill", "stall", "term"}:
                done = self._strike_process(action, role, amount)
            elif action == "redis":
                done = self._strike_redis(role, amount)
            elif action == "net":
                done = self._strike_line(role, amount)
            else:
                done = self._strike_tradingview(kind, amount)
        except redis.RedisError:
            done = False
        (self.injected if done else self.skipped)[kind] += 1
        self.log.append(f"{past_s:7.1f} s  {kind} {amount:.2f}{'' if done else '  skipped'}")

    def _strike_tradingview(self, kind: str, amount: float) -> bool:
        simulator = self._rig.simulator
        if kind in CONNECTION_KINDS and not simulator.connections:
            # It would wait, with others, and break every connection to come as it is made.
            return False
        if kind == "expire_token":
            simulator.expire_token(USER)
        elif kind == "skew":
            simulator.faults.inject(Kind.SKEW, skew_ms=round((2 * amount - 1) * SKEW_MS))
            self._after(1 + 5 * amount, lambda: simulator.faults.inject(Kind.SKEW, skew_ms=0))
        else:
            count = 1 + int(amount * (2 if kind in {*HANDSHAKE_KINDS, *WEB_KINDS} else 4))
            simulator.faults.inject(kind, count=count, duration_s=0.5 + 6 * amount)
            if kind in HANDSHAKE_KINDS:
                # Otherwise it would wait for a handshake that may never come.
                self._reset()
        return True

    def _reset(self) -> None:
        if self._rig.simulator.connections:
            self._rig.simulator.faults.inject(Kind.RESET)

    def _strike_line(self, what: str, amount: float) -> bool:
        line = self._rig.line
        if what == "half_open":
            line.go_half_open()
        elif what == "hold":
            line.hold(1 + 11 * amount)
        elif what == "slow":
            line.slow(0.05 + 0.4 * amount, 2 + 6 * amount)
        else:
            line.refuse(1 + 5 * amount)
            self._reset()
        return True

    # Processes.

    def _start(self, name: str) -> None:
        self._rig.start(name)
        self.started_s[name] = time.monotonic()
        self._struck.discard(name)

    def _victim(self, role: str) -> str:
        if role == "consumer":
            return CONSUMER
        holder = self._rig.holder()
        return _other(holder) if role == "standby" and holder else holder

    def _strike_process(self, action: str, role: str, amount: float) -> bool:
        name = self._victim(role)
        if not name or name in self._struck:
            return False
        self._struck.add(name)
        if action == "kill":
            held = self._rig.held_by()
            self._rig.named[name].kill()
            if role == "active" and held:
                self._killed = (time.monotonic(), name, held)
            self._after(0.2 + 3 * amount, lambda: self._start(name))
        elif action == "stall":
            self._rig.signal(name, signal.SIGSTOP)
            self._after(1 + 7 * amount, lambda: self._wake(name))
        else:
            self._rig.signal(name, signal.SIGTERM)
            told_s = time.monotonic()
            self._after(TURN_S, lambda: self._await_end(name, told_s, 0.2 + 3 * amount))
        return True

    def _wake(self, name: str) -> None:
        self._rig.signal(name, signal.SIGCONT)
        self._struck.discard(name)

    def _await_end(self, name: str, told_s: float, delay_s: float) -> None:
        code = self._rig.exit_code(name)
        if code is None and time.monotonic() < told_s + STOP_S_MAX:
            self._after(TURN_S, lambda: self._await_end(name, told_s, delay_s))
            return
        if code is None:
            self.faults.append(f"{name} did not end within {STOP_S_MAX:.0f} s of SIGTERM")
            self._rig.named[name].kill()
        elif code and not (code == -signal.SIGTERM and told_s - self.started_s[name] < YOUNG_S):
            self.faults.append(f"{name} ended with exit code {code} after SIGTERM")
        self._after(delay_s, lambda: self._start(name))

    # Redis.

    def _strike_redis(self, what: str, amount: float) -> bool:
        if REDIS in self._struck:
            return False
        client = self._rig.client
        if what == "scripts":
            client.script_flush()
        elif what == "clients":
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
        elif what == "flush":
            with self._witness.looking_away():
                client.flushall()
        else:
            self._struck.add(REDIS)
            self._take_redis_away(what, amount)
        return True

    def _take_redis_away(self, what: str, amount: float) -> None:
        client = self._rig.client
        back: Callable[[], object]
        if what == "kill":
            self._rig.kill_server()
            back = self._restart_redis
        elif what == "rewind":
            self._rig.kill_server()
            self._cut_tail(1 + 5 * amount)
            back = self._restart_redis
        elif what == "stall":
            pid = self._rig.server_pid
            os.kill(pid, signal.SIGSTOP)
            back = lambda: os.kill(pid, signal.SIGCONT)  # noqa: E731
        elif what == "oom":
            client.config_set("maxmemory", 1)
            back = lambda: client.config_set("maxmemory", 0)  # noqa: E731
        else:
            client.replicaof("127.0.0.1", 1)
            back = lambda: client.replicaof("NO", "ONE")  # noqa: E731
        short = what in {"kill", "rewind"}
        self._after(0.2 + 2 * amount if short else 1 + 4 * amount, lambda: self._give_back(back))

    def _give_back(self, back: Callable[[], object]) -> None:
        try:
            back()
        except redis.RedisError:
            self._after(TURN_S, lambda: self._give_back(back))
            return
        self._struck.discard(REDIS)

    def _restart_redis(self) -> None:
        # What was not yet in the file when it was killed is gone.
        with self._witness.looking_away():
            self._rig.restart_server()

    def _cut_tail(self, age_s: float) -> None:
        """Take away what was written in the last seconds."""
        tail = self._rig.server_tail()
        until_s = time.monotonic() - age_s
        known = [size for at_s, size in self._sizes if at_s <= until_s]
        size = tail.stat().st_size
        os.truncate(tail, min(size, known[-1] if known else size * 9 // 10))
        self._sizes.clear()


def _other(publisher: str) -> str:
    return next(name for name in PUBLISHERS if name != publisher)
