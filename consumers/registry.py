"""How functions become handlers: `@app.on(…)` and its kin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from consumers.context import Context
from consumers.core.handlers import IN_ORDER_ONLY, Handler
from consumers.core.patterns import Pattern
from consumers.core.wants import BATCH_MAX, Subscription, Subscriptions, Wanted
from consumers.core.work import Gap
from consumers.errors import HandlerInvalid
from consumers.shell.frames import require_frames
from publisher.wire import Bar, SeriesInvalid, parse_interval

BarHandler = Callable[[Bar], object] | Callable[[Bar, Context], object]
BatchHandler = Callable[[list[Bar]], object] | Callable[[list[Bar], Context], object]
GapHandler = Callable[[Gap], object] | Callable[[Gap, Context], object]
Event = Mapping[str, Any]
EventHandler = Callable[[Event], object] | Callable[[Event, Context], object]

BarF = TypeVar("BarF", bound=BarHandler)
BatchF = TypeVar("BatchF", bound=BatchHandler)
GapF = TypeVar("GapF", bound=GapHandler)
EventF = TypeVar("EventF", bound=EventHandler)
AnyF = TypeVar("AnyF", bound=Callable[..., object])


class Registry:
    """The handlers of a consumer.

    A handler is a function, plain or `async`, that takes what it is registered
    for, and a `Context` as well where it has a second parameter. Plain handlers
    are called one at a time in the thread that called `run`; `async` ones run
    in an event loop beside it, those of different series concurrently.

    Where several handlers want the same thing each gets it: those of batches
    first, then in the order of registration. An entry is acknowledged when all
    of them returned; where one fails, the attempt that follows begins with it.
    """

    def __init__(self, *, unordered: bool = False) -> None:
        self.unordered = unordered
        self.subscriptions = Subscriptions()

    @overload
    def on(self, *patterns: str) -> Callable[[BarF], BarF]: ...

    @overload
    def on(self, *patterns: str, batch: None) -> Callable[[BarF], BarF]: ...

    @overload
    def on(self, *patterns: str, batch: int) -> Callable[[BatchF], BatchF]: ...

    def on(self, *patterns: str, batch: int | None = None) -> Callable[[Any], Any]:
        """Register a function for the closed bars of series.

        Series are named (`BTCUSDT-BINANCE-1m`) or matched (`*-BINANCE-1m`). Patterns
        compare case-sensitively with the text form of the series in the
        catalogue; new ones that match are picked up within 2 s.

        With `batch=500` the function takes a list of 1 to 500 bars: what is there
        without waiting for more, of one series or of several, those of a series in
        order. Where it fails each of the bars is handed over in a list of its own, so
        that one that cannot be handled holds up nothing but its series.

        Raises PatternInvalid, HandlerInvalid or UsageError.
        """
        if batch is None:
            return self._register(Wanted.BARS, "on", patterns, "bar")
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= BATCH_MAX:
            raise HandlerInvalid(f"batch must be 1 to {BATCH_MAX} bars, was {batch!r}")
        return self._register(Wanted.BARS, "on", patterns, "bars", batch=batch)

    def on_forming(self, *patterns: str) -> Callable[[BarF], BarF]:
        """Register a function for the bar in progress, each time it changes.

        It takes a bar whose `closed_by` is `forming`. What comes while it is busy is
        conflated; nothing is stored, acknowledged or tried again: a failure is
        logged and the next state comes.
        """
        return self._register(Wanted.FORMING, "on_forming", patterns, "bar")

    def on_correction(self, *patterns: str) -> Callable[[BarF], BarF]:
        """Register a function for closed bars that TradingView changed later.

        It takes the bar with its new values; `revision` counts from 1.
        """
        return self._register(Wanted.CORRECTIONS, "on_correction", patterns, "bar")

    def on_gap(self, *patterns: str) -> Callable[[GapF], GapF]:
        """Register a function that is told of missing bars, before the bar behind them.

        It takes a `Gap`.
        """
        return self._register(Wanted.GAPS, "on_gap", patterns, "gap")

    def on_event(self, *names: str) -> Callable[[EventF], EventF]:
        """Register a function for what the publisher tells, such as `series.*` or `gap.abandoned`.

        It takes the event as a mapping: `event` is its name, `at_ms` the publisher's
        time, `level` info, warning or error; the rest depends on the event. One
        member of the group gets them, in order.
        """
        if not names or not all(isinstance(x, str) for x in names):
            raise HandlerInvalid('name events: @app.on_event("series.*")')

        def register(call: Any) -> Any:
            handler = Handler.inspect(call, "event")
            self.subscriptions.add(Subscription(Wanted.EVENTS, handler, names=names))
            return call

        return register

    def on_interval(
        self, interval: str, *patterns: str, frame: bool = False
    ) -> Callable[[AnyF], AnyF]:
        """Register a function for all bars of an interval that ended at the same time.

        Called when every series of the interval has published its bar, or the
        publisher waits no longer for those that nobody traded. It takes a dict of
        series to bars, only of those that match the patterns where there are any;
        with `frame=True` a DataFrame with one row a series, indexed by its text,
        with the columns open_time, open, high, low, close and volume.

        Raises HandlerInvalid, PatternInvalid, and FrameUnavailable without pandas.
        """
        try:
            known = parse_interval(interval)
        except SeriesInvalid as error:
            raise HandlerInvalid(f'{error}; write @app.on_interval("1m")') from None
        if frame:
            require_frames("on_interval(frame=True)")
        takes = "frame" if frame else "bars"
        wanted = patterns or ("*",)
        return self._register(
            Wanted.INTERVALS, "on_interval", wanted, takes, interval=known, frame=frame
        )

    def _register(
        self, wanted: Wanted, name: str, patterns: tuple[str, ...], takes: str, **options: Any
    ) -> Callable[[Any], Any]:
        if not patterns or not all(isinstance(x, str) for x in patterns):
            raise HandlerInvalid(f'name a series: @app.{name}("BTCUSDT-BINANCE-1m")')
        parsed = tuple(Pattern.parse(x) for x in patterns)

        def register(call: Any) -> Any:
            handler = Handler.inspect(call, takes)
            self._check_order(handler, wanted)
            self.subscriptions.add(Subscription(wanted, handler, parsed, **options))
            return call

        return register

    def _check_order(self, handler: Handler, wanted: Wanted) -> None:
        if not getattr(handler.call, IN_ORDER_ONLY, False):
            return
        if wanted is not Wanted.BARS:
            raise HandlerInvalid(f"{handler.name} keeps a position: register it with @app.on alone")
        if self.unordered:
            raise HandlerInvalid(
                f"{handler.name} keeps a position, so it needs the order that an unordered "
                "consumer does not have"
            )
