"""The stored session: cookies in one file of the state directory.

`STATE_DIR/signin/session`, JSON, readable by its user alone. `session` holds the
cookies, or `sealed` the same encrypted (Fernet), with a key that comes from
TVBUS_STATE_KEY and `salt` by scrypt, or from the system's keyring.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, Field, SecretStr, ValidationError

from bus.files import Exposed, read_private, write_private
from publisher.core.account import Cookies, Session
from publisher.errors import SessionExpired, SignInError
from publisher.shell.keychain import Keychain, KeychainFailed

FILE_BYTES_MAX: Final = 65_536
SALT_BYTES: Final = 16
SCRYPT_COST: Final = 2**15
"""32 MiB and about 0.1 s for each try of a key; a file that says otherwise is not ours."""

LOGIN: Final = "run `tvbus login`"

Sealing = Literal["plain", "state key", "keyring"]
"""How the file is kept: not encrypted, or with the key of that place."""
_Text = Annotated[str, Field(min_length=1, max_length=4_096)]


@dataclass(frozen=True, slots=True)
class Stored:
    """How a session was stored."""

    sealing: Sealing
    trouble: str = ""
    """Why it is not encrypted although it could be."""


class _Content(BaseModel):
    sessionid: _Text
    sessionid_sign: _Text
    device_t: _Text | None = None
    username: str = ""
    nick: str = ""
    signed_in_ms: int = 0


class _File(BaseModel):
    version: Literal[1]
    sealing: Sealing
    session: _Content | None = None
    sealed: str = ""
    salt: str = ""


class Vault:
    """One stored session."""

    def __init__(self, state_dir: Path, state_key: SecretStr | None, keychain: Keychain) -> None:
        self.path = state_dir.absolute() / "signin" / "session"
        self._state_key = state_key
        self._keychain = keychain

    def load(self) -> Session | None:
        """Return the stored session, None where there is none.

        Raises SessionExpired where it cannot be read any more, SignInError where
        others can read it too.
        """
        file = self._read()
        if file is None:
            return None
        content = file.session if file.sealing == "plain" else self._unseal(file)
        if content is None:
            raise self._unusable("holds no session")
        return _session(content)

    def stamp(self) -> int | None:
        """Return what changes whenever a session is stored; None where there is none."""
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return None

    def save(self, session: Session) -> Stored:
        """Store a session in place of another. Raises OSError."""
        sealing, key, salt, trouble = self._key()
        content = _content(session)
        file = _File(version=1, sealing=sealing, salt=salt)
        if key is None:
            file.session = content
        else:
            file.sealed = key.encrypt(content.model_dump_json().encode()).decode()
        write_private(self.path, file.model_dump_json(exclude_defaults=True).encode())
        return Stored(sealing, trouble)

    def forget(self) -> list[str]:
        """Remove the stored session and its key; return what was removed.

        Raises SignInError where the file cannot be removed.
        """
        removed = []
        try:
            self.path.unlink()
            removed.append(f"the session in {self.path}")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SignInError(f"{self.path} cannot be removed: {error.strerror}") from error
        try:
            if self._keychain.available and self._keychain.forget(str(self.path)):
                removed.append("its key in the keyring")
        except KeychainFailed as error:
            removed.append(f"not its key in the keyring ({error})")
        return removed

    def _read(self) -> _File | None:
        try:
            data = read_private(self.path, FILE_BYTES_MAX)
        except Exposed as error:
            raise SignInError(
                f"the stored session is not used: {error}, and `tvbus login` again if you do not "
                "trust who could read it"
            ) from error
        except OSError as error:
            raise self._unusable(f"cannot be read ({error.strerror or error})") from error
        if data is None:
            return None
        try:
            return _File.model_validate_json(data)
        except ValidationError:
            # Its text would show what the file holds.
            raise self._unusable("is damaged") from None

    def _unseal(self, file: _File) -> _Content:
        try:
            data = self._key_of(file).decrypt(file.sealed)
            return _Content.model_validate_json(data)
        except InvalidToken:
            where = "TVBUS_STATE_KEY" if file.sealing == "state key" else "the keyring's key"
            raise self._unusable(f"does not open with {where}") from None
        except (ValidationError, ValueError):
            raise self._unusable("is damaged") from None

    def _key_of(self, file: _File) -> Fernet:
        if file.sealing == "state key":
            if self._state_key is None:
                raise self._unusable("is encrypted and TVBUS_STATE_KEY is not set")
            return _derive(self._state_key, base64.b64decode(file.salt, validate=True))
        try:
            key = self._keychain.read(str(self.path))
        except KeychainFailed as error:
            raise self._unusable(f"is encrypted, and its key cannot be had: {error}") from error
        if key is None:
            raise self._unusable("is encrypted, and its key is not in the keyring any more")
        return Fernet(key)

    def _key(self) -> tuple[Sealing, Fernet | None, str, str]:
        """Return how to encrypt: the way, the key, the salt, and what was in the way."""
        if self._state_key is not None:
            salt = os.urandom(SALT_BYTES)
            return "state key", _derive(self._state_key, salt), base64.b64encode(salt).decode(), ""
        if not self._keychain.available:
            return "plain", None, "", ""
        try:
            key = self._keyring_key()
        except KeychainFailed as error:
            return "plain", None, "", str(error)
        return "keyring", key, "", ""

    def _keyring_key(self) -> Fernet:
        """Return the key in use, for a crash before the file is written loses nothing then."""
        known = self._keychain.read(str(self.path))
        if known is None:
            known = Fernet.generate_key().decode()
            self._keychain.write(str(self.path), known)
        return Fernet(known)

    def _unusable(self, why: str) -> SessionExpired:
        return SessionExpired(f"the stored session {self.path} {why}; {LOGIN} again")


def _derive(state_key: SecretStr, salt: bytes) -> Fernet:
    kdf = Scrypt(salt=salt, length=32, n=SCRYPT_COST, r=8, p=1)
    key = kdf.derive(state_key.get_secret_value().encode())
    return Fernet(base64.urlsafe_b64encode(key))


def _session(content: _Content) -> Session:
    device_t = None if content.device_t is None else SecretStr(content.device_t)
    cookies = Cookies(SecretStr(content.sessionid), SecretStr(content.sessionid_sign), device_t)
    return Session(
        cookies, SecretStr(content.username), SecretStr(content.nick), content.signed_in_ms
    )


def _content(session: Session) -> _Content:
    cookies = session.cookies
    return _Content(
        sessionid=cookies.sessionid.get_secret_value(),
        sessionid_sign=cookies.sessionid_sign.get_secret_value(),
        device_t=cookies.device_t.get_secret_value() if cookies.device_t else None,
        username=session.username.get_secret_value(),
        nick=session.nick.get_secret_value(),
        signed_in_ms=session.signed_in_ms,
    )
