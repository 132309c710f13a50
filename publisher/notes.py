"""Facts for people and machines: a log line, an entry of `tv:events`, a counter."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import orjson
import structlog

from publisher.delivery import Delivery
from publisher.ports import Clock

Level = Literal["info", "warning", "error"]


class Notes:
    """Tells what happened; names are `subject.past_fact`, data goes in fields."""

    def __init__(self, clock: Clock, delivery: Delivery) -> None:
        self._clock = clock
        self._delivery = delivery
        self._log = structlog.get_logger("publisher")
        self.counts: Counter[str] = Counter()

    def tell(
        self, event: str, *, level: Level = "info", before_bars: bool = False, **fields: Any
    ) -> None:
        """Log a fact and put it on the events stream, before any further bar where asked."""
        self.count(event)
        values = {name: _plain(value) for name, value in fields.items()}
        getattr(self._log, level)(event, **values)
        fact = {"event": event, "at_ms": self._clock.wall_ms(), "level": level, **values}
        self._delivery.emit(orjson.dumps(fact), before_bars=before_bars)

    def debug(self, event: str, **fields: Any) -> None:
        """Log what only a developer wants to know."""
        self._log.debug(event, **{name: _plain(value) for name, value in fields.items()})

    def count(self, name: str, by: int = 1) -> None:
        """Count without telling; for what happens per message or bar."""
        self.counts[name] += by


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, (int, float, bool)) or value is None else str(value)
