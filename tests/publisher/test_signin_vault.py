"""The stored session: readable by its user alone, whole or not there, encrypted where it can be."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.backends.null
import keyring.errors
import pytest
from pydantic import SecretStr

from bus import files
from bus.files import read_private, write_private
from publisher.core.account import Cookies, Session
from publisher.errors import SessionExpired, SignInError
from publisher.shell import keychain as keychain_module
from publisher.shell.keychain import Keychain, KeychainFailed
from publisher.shell.vault import FILE_BYTES_MAX, Stored, Vault, _derive

COOKIES = Cookies(SecretStr("geheim-id"), SecretStr("v3:geheim-sign"), SecretStr("geheim-device"))
SESSION = Session(COOKIES, SecretStr("alice@example.com"), SecretStr("Alice"), 1_700_000_000_000)
BARE = Session(
    Cookies(SecretStr("geheim-id"), SecretStr("v3:geheim-sign")), SecretStr(""), SecretStr(""), 0
)
KEY = SecretStr("a key of any length")


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that keeps its secrets until the test ends."""

    priority = 5

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], str] = {}
        self.fails = False

    def get_password(self, service: str, username: str) -> str | None:
        self._may_fail()
        return self.secrets.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._may_fail()
        self.secrets[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.secrets[service, username]

    def _may_fail(self) -> None:
        if self.fails:
            raise keyring.errors.KeyringLocked("geheim")


@pytest.fixture
def memory() -> Iterator[MemoryKeyring]:
    """The machine's keyring, for this test."""
    before = keyring.get_keyring()
    backend = MemoryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


@pytest.fixture
def _no_keyring() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())
    yield
    keyring.set_keyring(before)


def vault(folder: Path, key: SecretStr | None = None) -> Vault:
    return Vault(folder / "state", key, Keychain())


def content(folder: Path) -> Any:
    return json.loads(vault(folder).path.read_bytes())


@pytest.mark.usefixtures("_no_keyring")
@pytest.mark.parametrize("session", [SESSION, BARE])
@pytest.mark.parametrize(("key", "sealing"), [(None, "plain"), (KEY, "state key")])
def test_a_session_reads_back(
    tmp_path: Path, session: Session, key: SecretStr | None, sealing: str
) -> None:
    assert vault(tmp_path, key).load() is None
    assert vault(tmp_path, key).save(session).sealing == sealing
    assert vault(tmp_path, key).load() == session


@pytest.mark.usefixtures("_no_keyring")
def test_file_and_folder_are_for_their_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        vault(tmp_path).save(SESSION)
    finally:
        os.umask(before)
    path = vault(tmp_path).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["session"]


@pytest.mark.usefixtures("_no_keyring")
def test_an_encrypted_session_shows_nothing(tmp_path: Path) -> None:
    vault(tmp_path, KEY).save(SESSION)
    text = vault(tmp_path).path.read_text()
    for secret in ("geheim", "alice", "Alice", "a key"):
        assert secret not in text
    first = content(tmp_path)
    vault(tmp_path, KEY).save(SESSION)
    assert content(tmp_path)["salt"] != first["salt"]


@pytest.mark.usefixtures("_no_keyring")
def test_neither_vault_nor_session_prints_secrets(tmp_path: Path) -> None:
    assert "geheim" not in repr(SESSION) + repr(vault(tmp_path, KEY))
    assert "alice" not in repr(SESSION)


@pytest.mark.usefixtures("_no_keyring")
@pytest.mark.parametrize(
    ("key", "words"),
    [(SecretStr("another key"), "does not open with TVBUS_STATE_KEY"), (None, "is not set")],
)
def test_a_session_does_not_open_without_its_key(
    tmp_path: Path, key: SecretStr | None, words: str
) -> None:
    vault(tmp_path, KEY).save(SESSION)
    with pytest.raises(SessionExpired, match=words) as refused:
        vault(tmp_path, key).load()
    assert "tvbus login" in str(refused.value)
    assert "another key" not in str(refused.value)


@pytest.mark.usefixtures("_no_keyring")
@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:-5],
        lambda data: b"\xff\xfe",
        lambda data: b"[]",
        lambda data: b'{"version":2,"sealing":"plain"}',
        lambda data: b'{"version":1,"sealing":"rot13"}',
        lambda data: b'{"version":1,"sealing":"plain"}',
        lambda data: b'{"version":1,"sealing":"plain","session":{"sessionid":"geheim"}}',
        lambda data: b'{"version":1,"sealing":"state key","salt":"!","sealed":"x"}',
        lambda data: b'{"version":1,"sealing":"state key","salt":"AAAA","sealed":"geheim"}',
    ],
)
def test_a_damaged_session_is_told_without_showing_it(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    vault(tmp_path).save(SESSION)
    path = vault(tmp_path).path
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SessionExpired, match="run `tvbus login` again") as refused:
        vault(tmp_path, KEY).load()
    assert str(path) in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.usefixtures("_no_keyring")
def test_a_sealed_session_that_holds_something_else_is_damaged(tmp_path: Path) -> None:
    vault(tmp_path, KEY).save(SESSION)
    file = content(tmp_path)
    key = _derive(KEY, base64.b64decode(file["salt"]))
    file["sealed"] = key.encrypt(b'{"sessionid":7}').decode()
    vault(tmp_path).path.write_text(json.dumps(file))
    with pytest.raises(SessionExpired, match="is damaged"):
        vault(tmp_path, KEY).load()


@pytest.mark.usefixtures("_no_keyring")
def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    vault(tmp_path).save(SESSION)
    vault(tmp_path).path.write_bytes(b" " * (FILE_BYTES_MAX + 1))
    with pytest.raises(SessionExpired, match="cannot be read"):
        vault(tmp_path).load()


@pytest.mark.usefixtures("_no_keyring")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_have_access_to_is_refused(tmp_path: Path, mode: int) -> None:
    vault(tmp_path).save(SESSION)
    path = vault(tmp_path).path
    path.chmod(mode)
    with pytest.raises(SignInError, match=f"run `chmod 600 {path}`"):
        vault(tmp_path).load()
    path.chmod(0o600)
    assert vault(tmp_path).load() == SESSION


@pytest.mark.usefixtures("_no_keyring")
@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_have_access_to_is_refused(tmp_path: Path, mode: int) -> None:
    vault(tmp_path).save(SESSION)
    folder = vault(tmp_path).path.parent
    folder.chmod(mode)
    with pytest.raises(SignInError, match=f"run `chmod 700 {folder}`"):
        vault(tmp_path).load()
    with pytest.raises(OSError, match="chmod 700"):
        vault(tmp_path).save(SESSION)


@pytest.mark.usefixtures("_no_keyring")
def test_a_link_to_a_file_elsewhere_is_not_followed(tmp_path: Path) -> None:
    vault(tmp_path).save(SESSION)
    path = vault(tmp_path).path
    path.replace(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SessionExpired, match="cannot be read"):
        vault(tmp_path).load()


def test_another_users_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(tmp_path / "private" / "file", b"x")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(files.Exposed, match="belongs to another user"):
        read_private(tmp_path / "private" / "file", 10)


def test_a_system_without_modes_is_not_asked_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_HAS_MODES", False)
    write_private(tmp_path / "private" / "file", b"x")
    (tmp_path / "private" / "file").chmod(0o644)
    assert read_private(tmp_path / "private" / "file", 10) == b"x"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "private" / "file"
    write_private(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_keyring_holds_the_key(tmp_path: Path, memory: MemoryKeyring) -> None:
    assert vault(tmp_path).save(SESSION) == Stored("keyring")
    assert "geheim" not in vault(tmp_path).path.read_text()
    assert [name for _, name in memory.secrets] == [str(vault(tmp_path).path)]
    assert vault(tmp_path).load() == SESSION
    key = dict(memory.secrets)
    vault(tmp_path).save(SESSION)
    assert memory.secrets == key


def test_a_state_key_comes_before_the_keyring(tmp_path: Path, memory: MemoryKeyring) -> None:
    assert vault(tmp_path, KEY).save(SESSION).sealing == "state key"
    assert memory.secrets == {}


def test_a_key_that_is_gone_from_the_keyring_is_told(tmp_path: Path, memory: MemoryKeyring) -> None:
    vault(tmp_path).save(SESSION)
    memory.secrets.clear()
    with pytest.raises(SessionExpired, match="not in the keyring any more"):
        vault(tmp_path).load()


@pytest.mark.parametrize("key", ["no key at all", "A" * 43 + "="])
def test_a_key_of_the_keyring_that_does_not_fit_is_told(
    tmp_path: Path, memory: MemoryKeyring, key: str
) -> None:
    vault(tmp_path).save(SESSION)
    memory.secrets = dict.fromkeys(memory.secrets, key)
    with pytest.raises(SessionExpired, match=r"does not open|is damaged"):
        vault(tmp_path).load()


def test_a_keyring_that_fails_is_told_and_gone_without(
    tmp_path: Path, memory: MemoryKeyring
) -> None:
    memory.fails = True
    stored = vault(tmp_path).save(SESSION)
    assert stored == Stored("plain", "the keyring failed: KeyringLocked")
    assert vault(tmp_path).load() == SESSION


def test_a_keyring_that_fails_later_is_told(tmp_path: Path, memory: MemoryKeyring) -> None:
    vault(tmp_path).save(SESSION)
    memory.fails = True
    with pytest.raises(SessionExpired, match="its key cannot be had: the keyring failed") as told:
        vault(tmp_path).load()
    assert "geheim" not in str(told.value)


def test_a_keyring_that_waits_for_nobody_is_given_up(
    tmp_path: Path, memory: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(keychain_module, "ANSWER_S_MAX", 0.05)
    monkeypatch.setattr(memory, "get_password", lambda *_: answered.wait(30))
    try:
        with pytest.raises(KeychainFailed, match="does not answer"):
            Keychain().read("x")
    finally:
        answered.set()


@pytest.mark.parametrize("backend", [keyring.backends.fail.Keyring, keyring.backends.null.Keyring])
def test_a_stand_in_for_no_keyring_is_none(
    memory: MemoryKeyring, backend: type[keyring.backend.KeyringBackend]
) -> None:
    assert Keychain().available
    keyring.set_keyring(backend())
    assert not Keychain().available


def test_a_machine_without_the_extra_has_no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(keychain_module.importlib, "import_module", missing)
    assert not Keychain().available
    with pytest.raises(KeychainFailed, match="extra `keyring` is not installed"):
        Keychain().read("x")


def test_logging_out_removes_the_file_and_the_key(tmp_path: Path, memory: MemoryKeyring) -> None:
    vault(tmp_path).save(SESSION)
    assert vault(tmp_path).forget() == [
        f"the session in {vault(tmp_path).path}",
        "its key in the keyring",
    ]
    assert memory.secrets == {}
    assert vault(tmp_path).load() is None
    assert vault(tmp_path).forget() == []


def test_a_keyring_that_does_not_forget_is_told(tmp_path: Path, memory: MemoryKeyring) -> None:
    vault(tmp_path).save(SESSION)
    memory.fails = True
    assert "not its key in the keyring" in vault(tmp_path).forget()[1]


@pytest.mark.usefixtures("_no_keyring")
def test_a_file_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    vault(tmp_path).path.mkdir(parents=True)
    with pytest.raises(SignInError, match="cannot be removed"):
        vault(tmp_path).forget()
