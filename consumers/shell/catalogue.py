"""Which series the bus has, read from the publisher's catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import structlog

from bus.connection import Client
from consumers.errors import StreamRefused
from consumers.shell.streams import translated
from publisher.wire import EntryMalformed, Series, Summary

log = structlog.get_logger("consumers")


@dataclass(slots=True)
class Catalogue:
    """The series that are there now; what cannot be read is reported once."""

    client: Client
    key: str
    _reported: set[bytes] = field(default_factory=set)

    def read(self) -> set[Series]:
        """Return the series that the publisher has and has not removed."""
        try:
            with translated():
                lines = cast(dict[bytes, bytes], self.client.hgetall(self.key))
        except StreamRefused as error:
            self._report(b"", str(error))
            return set()
        found = set()
        for name, text in lines.items():
            try:
                summary = Summary.decode(name, text)
            except EntryMalformed as error:
                self._report(name, str(error))
                continue
            if summary.state != "removed":
                found.add(summary.series)
        self._reported &= {b"", *lines}
        return found

    def _report(self, line: bytes, error: str) -> None:
        if line not in self._reported:
            self._reported.add(line)
            log.error("catalogue.refused", key=self.key, error=error)
