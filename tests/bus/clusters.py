"""Real clusters for the tests: nodes that share the slots, and refuse what spans several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from bus.connection import Client, connect_writer
from tests.bus.servers import free_port, running
from tests.waiting import eventually as wait_for

CLUSTERED = ["--save", "", "--cluster-enabled", "yes", "--cluster-port"]


@contextmanager
def cluster_of(binary: str, folder: Path, size: int) -> Iterator[list[int]]:
    """Run so many nodes that share the slots evenly; yield their ports."""
    ports = [free_port() for _ in range(size)]
    with ExitStack() as stack:
        nodes = []
        for index, port in enumerate(ports):
            arguments = [binary, "--port", str(port), *CLUSTERED, str(free_port())]
            stack.enter_context(running(arguments, folder / str(port)))
            nodes.append(stack.enter_context(direct(port)))
            command(
                nodes[-1],
                f"CLUSTER ADDSLOTSRANGE {index * 16384 // size} {(index + 1) * 16384 // size - 1}",
            )
        for node, port in zip(nodes[1:], ports[1:], strict=True):
            gossip = node.config_get("cluster-port")["cluster-port"]
            command(nodes[0], f"CLUSTER MEET 127.0.0.1 {port} {gossip}")
        wait_for(lambda: all(is_whole(node, size) for node in nodes))
        yield ports


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        with connect_writer(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def direct(port: int) -> Client:
    """Connect to one node as to a plain server, once it answers."""
    url = f"redis://127.0.0.1:{port}"
    wait_for(lambda: answers(url))
    return connect_writer(url)


def command(node: Client, text: str) -> Any:
    """Send a command as one would type it."""
    return node.execute_command(*text.split())  # type: ignore[no-untyped-call]


def is_whole(node: Client, nodes: int) -> bool:
    """Whether the node knows so many nodes, and they hold all slots."""
    told = command(node, "CLUSTER INFO").decode().split()
    return {"cluster_state:ok", f"cluster_known_nodes:{nodes}"} <= set(told)
