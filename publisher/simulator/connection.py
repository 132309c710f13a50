"""One client's WebSocket: reads, answers, beats."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from publisher.simulator.clock import SimulatedClock
from publisher.simulator.damage import Damage, encode, huge
from publisher.simulator.faults import Fault, Faults, Kind
from publisher.simulator.framing import FramingError, frame, unframe
from publisher.simulator.market import Market
from publisher.simulator.plan import UPDATE_MS, Limits, Message
from publisher.simulator.protocol import BAD_TOKEN, Expired, Protocol
from publisher.simulator.tokens import Tokens

HEARTBEAT_S: Final = 5.0
ECHO_S: Final = 20.0
"""A client that did not echo a heartbeat for so long is dropped, real seconds."""

SEND_S: Final = 20.0
"""A client that does not take a message for so long is dropped, real seconds."""

_GATHER_S: Final = 0.01
_BEAT_WAITS: Final = 0.06
"""How long a beat may wait for data to come with, as a share of the period."""

_WAIT_S_MIN: Final = 0.004
_WAIT_S_MAX: Final = 0.25
_PACKETS_MAX: Final = 8
_STAMPED: Final = frozenset(
    {"series_loading", "symbol_resolved", "timescale_update", "series_completed",
     "symbol_error", "series_error"}
)  # fmt: skip


@dataclass
class World:
    """What all connections share."""

    market: Market
    clock: SimulatedClock
    limits: Limits
    tokens: Tokens
    faults: Faults
    expired_token: Expired = "mute"  # noqa: S105 - no secret
    heartbeat_s: float = HEARTBEAT_S
    echo_s: float = ECHO_S
    send_s: float = SEND_S
    sent: Counter[str] = field(default_factory=Counter)
    """How many messages of each kind were sent, heartbeats under `~h~`."""
    received: Counter[str] = field(default_factory=Counter)


class Connection:
    """Serves one client until either side ends it."""

    def __init__(self, world: World, socket: ServerConnection, number: int) -> None:
        self.number = number
        self._world = world
        self._socket = socket
        self._protocol = Protocol(world.market, world.limits, world.tokens, world.expired_token)
        self._damage = Damage(world.faults, number)
        self._wake = asyncio.Event()
        self._beats = 0
        self._beat_at_s = time.monotonic() + world.heartbeat_s
        self._beat_waits_s = world.heartbeat_s * _BEAT_WAITS
        self._unanswered: deque[tuple[str, float]] = deque(maxlen=100)
        self._grouping = 0
        self._ends: list[Fault] = []

    def wake(self) -> None:
        """Make the connection look at the time and the faults at once."""
        self._wake.set()

    async def run(self) -> None:
        """Serve until the connection ends."""
        self._world.faults.opened(self.number)
        self._ends = self._damage.take()
        reader = asyncio.create_task(self._read())
        try:
            await self._send(encode(self._hello()))
            await self._pump(reader)
        except (ConnectionClosed, TimeoutError):
            self._abort()
        finally:
            self._world.faults.closed(self.number)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await reader

    async def _pump(self, reader: asyncio.Task[None]) -> None:
        while not reader.done():
            ends, self._ends = self._ends, []
            for fault in [*ends, *self._damage.take()]:
                if fault.kind is Kind.RESET:
                    self._abort()
                    return
                if fault.kind is Kind.CLOSE:
                    await self._socket.close(1000)
                    return
                await self._send(huge(fault.size_bytes))
            if self._unechoed():
                self._abort()
                return
            await self._flush()
            if self._protocol.closing:
                await self._socket.close(1000)
                return
            await self._wait()

    async def _wait(self) -> None:
        clock = self._world.clock
        left_s = clock.real_seconds(self._protocol.due_ms - clock.now_ms())
        beat_s = self._beat_at_s - time.monotonic()
        beat_s += self._beat_waits_s if beat_s <= 0 else 0.0
        left_s = min(left_s, beat_s, _WAIT_S_MAX)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(_WAIT_S_MIN, left_s)):
                await self._wake.wait()
        if self._wake.is_set():
            self._wake.clear()
            # The requests of a burst come in several messages and are answered in one.
            await asyncio.sleep(_GATHER_S)

    async def _flush(self) -> None:
        clock = self._world.clock
        update_ms = UPDATE_MS * clock.speed
        now_ms = clock.now_ms()
        asked = self._protocol.due_ms == 0.0
        messages = self._damage.messages(self._protocol.poll(now_ms, update_ms))
        packets = [encode(self._stamped(message, now_ms)) for message in messages]
        self._world.sent.update(message["m"] for message in messages)
        if (beat := self._beat(has_data=bool(messages))) is not None:
            packets.insert(0, beat)
        size = len(packets) if asked else self._group_size()
        for at in range(0, len(packets), max(1, size)):
            text = "".join(packets[at : at + size])
            await self._send_bytes(self._damage.data(text) if messages else text.encode())

    def _group_size(self) -> int:
        # Live updates come alone or a few together.
        self._grouping += 1
        return 1 + self._grouping * 5 % _PACKETS_MAX

    def _beat(self, *, has_data: bool) -> str | None:
        now_s = time.monotonic()
        if now_s < self._beat_at_s:
            return None
        # Every second beat waits a little for data to come with.
        if not has_data and self._beats % 2 and now_s < self._beat_at_s + self._beat_waits_s:
            return None
        self._beat_at_s = now_s + self._world.heartbeat_s
        if self._damage.lasts(Kind.SILENCE):
            return None
        self._beats += 1
        packet = frame(f"~h~{self._beats}")
        self._unanswered.append((packet, now_s))
        self._world.sent["~h~"] += 1
        return packet

    def _unechoed(self) -> bool:
        if not self._unanswered:
            return False
        return time.monotonic() - self._unanswered[0][1] > self._world.echo_s

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                text = message if isinstance(message, str) else message.decode()
                for payload in unframe(text):
                    self._receive(payload)
                self._wake.set()
        except (FramingError, UnicodeDecodeError):
            self._abort()
        except ConnectionClosed:
            pass
        finally:
            self._wake.set()

    def _receive(self, payload: str) -> None:
        if payload.startswith("~h~"):
            self._world.received["~h~"] += 1
            packet = frame(payload)
            # An echo answers the heartbeats before it too.
            if any(packet == beat for beat, _ in self._unanswered):
                while self._unanswered.popleft()[0] != packet:
                    pass
            return
        self._world.received["message"] += 1
        # What was injected before this message arrived befalls it.
        self._ends += self._damage.take()
        if '"set_auth_token"' in payload and (reason := self._token_refusal()):
            self._protocol.fail(reason)
            return
        self._protocol.receive(
            payload,
            self._world.clock.now_ms(),
            throttled='"chart_create_session"' in payload
            and self._damage.strikes(Kind.SESSION_RATE),
        )

    def _token_refusal(self) -> str:
        if self._world.faults.take_request(Kind.BANNED, connection=self.number) is not None:
            return "banned"
        return BAD_TOKEN if self._damage.strikes(Kind.BAD_TOKEN) else ""

    def _hello(self) -> Message:
        now_ms = self._world.clock.now_ms() + self._world.faults.skew_ms
        return {
            "session_id": f"0.{self.number:09}.0_sim1-charts-free-1-tvbs-simul-1",
            "timestamp": now_ms // 1000,
            "timestampMs": now_ms,
            "release": "release_209-23",
            "studies_metadata_hash": "0fd29e4fdd03e654cf64f97efb4cd78bef47feac",
            "auth_scheme_vsn": 2,
            "protocol": "json",
            "via": "127.0.0.1:443",
            "javastudies": ["3.66"],
            # TradingView has no such key: it lets a client's clock run as fast as this one.
            "simulator_speed": float(self._world.clock.speed),
        }

    def _stamped(self, message: Message, now_ms: int) -> Message:
        if message["m"] not in _STAMPED:
            return message
        now_ms += self._world.faults.skew_ms
        return {**message, "t": now_ms // 1000, "t_ms": now_ms}

    async def _send(self, text: str) -> None:
        await self._send_bytes(text.encode())

    async def _send_bytes(self, data: bytes) -> None:
        # A client that does not read is dropped; nothing is kept for it.
        async with asyncio.timeout(self._world.send_s):
            await self._socket.send(data, text=True)

    def _abort(self) -> None:
        self._socket.transport.abort()
