"""A PostgreSQL of its own for tests, with data in a directory that ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.bus.servers import free_port
from tests.conftest import MISSING_TOOL
from tests.waiting import eventually

PASSWORD = "planted-pg-7Qz"
USER = "postgres"


def binaries() -> Path:
    """Return where PostgreSQL's programs are; skip the test where they are not."""
    found = shutil.which("postgres")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists():
            return folder
    pytest.skip(f"{MISSING_TOOL} postgresql (initdb, postgres)")


@dataclass
class PostgresServer:
    """One server process on 127.0.0.1, with password, and on a socket without."""

    folder: Path
    programs: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[PostgresServer]:
        """Make and start one; it ends with the context."""
        programs = binaries()
        # Not in pytest's directory: that is for this user alone.
        folder = Path(tempfile.mkdtemp(prefix="tvbus-pg-"))
        server = cls(folder, programs, free_port())
        try:
            server.make()
            server.start()
            yield server
        finally:
            server.crash()
            shutil.rmtree(folder)

    def _run_as(self) -> dict[str, Any]:
        """PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        return {"user": USER, "group": USER, "extra_groups": []}

    def make(self) -> None:
        """Run initdb."""
        (self.folder / "password").write_text(PASSWORD)
        if self._run_as():
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, USER, USER)
        command = [self.programs / "initdb", "-D", "data", "-U", "owner", "--no-sync"]
        command += ["--encoding=UTF8", "--locale=C", "--pwfile=password"]
        command += ["--auth-local=trust", "--auth-host=scram-sha-256"]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, check=False, **self._run_as()
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "port": str(self.port),
        }
        command = [str(self.programs / "postgres"), "-D", "data"]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        log = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=log, stderr=log, **self._run_as()
        )
        eventually(self.answers, "PostgreSQL answers")

    def answers(self) -> bool:
        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def crash(self) -> None:
        """End the server at once, as a crash would; it recovers at the next start."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(20)

    def ask(self, query: str, database: str = "postgres") -> list[Any]:
        """Run a statement as its owner and return the rows."""
        with psycopg.connect(
            host=str(self.folder), port=self.port, user="owner", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(query)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str, user: str = "owner", password: str = PASSWORD) -> str:
        """Return an address with everything in it."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"


@dataclass
class Database:
    """A new, empty database."""

    server: PostgresServer
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def ask(self, query: str) -> list[Any]:
        return self.server.ask(query, self.name)
