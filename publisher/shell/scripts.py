"""The Lua scripts, sent by hash and loaded again where the server forgot them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from bus.connection import Client


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and its hash."""

    text: str
    sha: str

    @classmethod
    def read(cls, *names: str) -> Script:
        """Join scripts of this package, in order, into one."""
        folder = files("publisher.shell")
        text = "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[Any, ...]


def run(client: Client, calls: Sequence[Call]) -> list[Any]:
    """Run the calls in one round trip; return each one's reply or its exception.

    Raises what redis-py raises where the connection fails. A call that the
    server refused with NOSCRIPT did nothing, so it is simply made again.
    """
    replies = _pipeline(client, calls)
    forgotten = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if forgotten:
        for script in {calls[i].script for i in forgotten}:
            client.script_load(script.text)
        again = _pipeline(client, [calls[i] for i in forgotten])
        for i, reply in zip(forgotten, again, strict=True):
            replies[i] = reply
    return replies


def _pipeline(client: Client, calls: Sequence[Call]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.arguments)
    return list(pipeline.execute(raise_on_error=False))
