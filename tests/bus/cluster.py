"""A real cluster of three nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from bus.connection import Client, connect_writer
from bus.embedded import _binary
from tests.bus.servers import free_port, running
from tests.waiting import eventually as wait_for

BINARY = str(_binary())
CLUSTERED = ["--save", "", "--cluster-enabled", "yes", "--cluster-port"]


@contextmanager
def cluster_of_three(folder: Path) -> Iterator[list[int]]:
    """Run three nodes that share the slots; give their ports."""
    ports = [free_port() for _ in range(3)]
    with ExitStack() as stack:
        nodes = []
        for index, port in enumerate(ports):
            arguments = [BINARY, "--port", str(port), *CLUSTERED, str(free_port())]
            stack.enter_context(running(arguments, folder / str(port)))
            nodes.append(direct_client(port))
            command(
                nodes[-1],
                f"CLUSTER ADDSLOTSRANGE {index * 16384 // 3} {(index + 1) * 16384 // 3 - 1}",
            )
        for node, port in zip(nodes[1:], ports[1:], strict=True):
            gossip = node.config_get("cluster-port")["cluster-port"]
            command(nodes[0], f"CLUSTER MEET 127.0.0.1 {port} {gossip}")
        wait_for(lambda: all(is_whole(node, len(ports)) for node in nodes))
        yield ports


def answers(url: str) -> bool:
    """Whether a server answers there."""
    try:
        with connect_writer(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def direct_client(port: int) -> Client:
    """Connect to one node as to a plain server, once it answers."""
    url = f"redis://127.0.0.1:{port}"
    wait_for(lambda: answers(url))
    return connect_writer(url)


def command(node: Client, text: str) -> Any:
    """Say this to one node."""
    return node.execute_command(*text.split())  # type: ignore[no-untyped-call]


def is_whole(node: Client, nodes: int) -> bool:
    """Whether this node knows so many, and all slots are served."""
    told = command(node, "CLUSTER INFO").decode().split()
    return {"cluster_state:ok", f"cluster_known_nodes:{nodes}"} <= set(told)
