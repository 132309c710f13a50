"""The recorded messages, read without the publisher.

They lie beside the repository and are not part of it; tests that need them are
skipped where the folder is absent.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "captures"

needs_recordings = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="missing recordings: ../shared/captures beside the repository"
)


def names() -> list[str]:
    """Every recording; the index is none."""
    return sorted(path.name for path in FOLDER.iterdir() if path.name != "index.md")


def text(name: str) -> str:
    """A recording as it stands in its file."""
    return (FOLDER / name).read_text(encoding="utf-8")


def units(payload: str) -> int:
    """The length that JavaScript would give."""
    return len(payload.encode("utf-16-le")) // 2


def unframe(message: str) -> list[str]:
    """The payloads of a message, counted in UTF-16; anything left over is an error."""
    rest = message.encode("utf-16-le")
    mark = "~m~".encode("utf-16-le")
    payloads = []
    while rest:
        assert rest.startswith(mark), rest[:40].decode("utf-16-le", "replace")
        length, rest = rest[len(mark) :].split(mark, 1)
        size = 2 * int(length.decode("utf-16-le"))
        assert len(rest) >= size, "cut off"
        payloads.append(rest[:size].decode("utf-16-le"))
        rest = rest[size:]
    return payloads


def messages(name: str) -> list[str]:
    """The framed messages of a recording that has the framing."""
    if name.endswith(".json"):
        return list(json.loads(text(name)))
    return [line for line in text(name).split("\n") if line]


def payloads(name: str) -> list[str]:
    """The payloads of a recording, in order; other formats are written anew as JSON."""
    if name.endswith((".framed.txt", "-wsmessages.json")):
        return [payload for message in messages(name) for payload in unframe(message)]
    lines = text(name).strip().split("\n")
    if name.endswith(".py-repr.txt"):
        return [json.dumps(ast.literal_eval(line)) for line in lines]
    if name.endswith(".jsonl"):
        return [json.dumps(_adapted(json.loads(line))) for line in lines]
    return [text(name).strip()]


def _adapted(line: dict[str, Any]) -> dict[str, Any]:
    """A recorder's line as the message that was recorded: see the index on 090 and 091."""
    if "b" in line:
        return {"m": line["m"], "p": [line["cid"], line["b"]]}
    inner = line["p"]
    return {"m": line["m"], "p": json.loads(inner) if isinstance(inner, str) else inner}


def one(name: str) -> dict[str, Any]:
    """The only payload of a recording, read by Python's own JSON reader."""
    (payload,) = payloads(name)
    read: dict[str, Any] = json.loads(payload)
    return read
