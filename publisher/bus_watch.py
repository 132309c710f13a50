"""Tells when the bus stops taking things, what was lost meanwhile, and when it is back."""

from __future__ import annotations

from collections import Counter

from publisher.delivery import Delivery
from publisher.notes import Notes


class BusWatch:
    """Compares how the delivery does with what was told of it; the engine's thread owns it."""

    def __init__(self, delivery: Delivery, notes: Notes) -> None:
        self._delivery = delivery
        self._notes = notes
        self._trouble = ""
        self._refusals: dict[str, str] = {}
        self._dropped: Counter[str] = Counter()

    def tell(self) -> bool:
        """Tell what changed; return whether the bus has just come back."""
        trouble = str(self._delivery.trouble or "")
        found = bool(self._trouble) and not trouble
        if found:
            self._notes.tell("store.found")
        elif trouble and not self._trouble:
            self._notes.tell("store.lost", level="warning", reason=trouble)
        self._trouble = trouble
        if not trouble:
            self._tell_dropped()
        self._tell_refusals()
        return found

    @property
    def troubles(self) -> str:
        """What the bus does not take, and why; empty where it takes everything."""
        reasons = (str(self._delivery.trouble or ""), *self._delivery.refusals.values())
        return "; ".join(reason for reason in reasons if reason)

    def _tell_dropped(self) -> None:
        for event, count in (self._delivery.dropped - self._dropped).items():
            self._notes.tell(event, level="warning", dropped=count)
            self._notes.count(event, count - 1)
        self._dropped = self._delivery.dropped.copy()

    def _tell_refusals(self) -> None:
        for name, reason in self._delivery.refusals.items():
            if self._refusals.get(name) != reason:
                self._notes.tell("store.refused", level="error", what=name, reason=reason)
        self._refusals = dict(self._delivery.refusals)
