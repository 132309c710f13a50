"""The Lua scripts, sent by hash and loaded again where the server forgot them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from bus.connection import Client


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and its hash."""

    text: str
    sha: str

    @classmethod
    def read(cls, package: str, *names: str) -> Script:
        """Join scripts that lie in a package, in order, into one."""
        folder = files(package)
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
    replies = _send(client, calls)
    forgotten = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if forgotten:
        for script in {calls[i].script for i in forgotten}:
            client.script_load(script.text)
        again = _send(client, [calls[i] for i in forgotten])
        for i, reply in zip(forgotten, again, strict=True):
            replies[i] = reply
    return replies


def _send(client: Client, calls: Sequence[Call]) -> list[Any]:
    if RedisCluster in type(client).__mro__:
        # It is no subclass of the client it stands for, and its pipelines take no scripts.
        return [_evaluate(client, call) for call in calls]
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.arguments)
    return list(pipeline.execute(raise_on_error=False))


def _evaluate(client: Client, call: Call) -> Any:
    try:
        return client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.arguments)
    except ResponseError as error:
        return error
