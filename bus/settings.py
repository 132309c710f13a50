"""Settings that every process of the bus shares.

From the environment, a `tvbus.toml` file and flags, in rising order of
precedence; a secret NAME may also stand in a file named by NAME_FILE.
"""

from __future__ import annotations

import os
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import unquote

import platformdirs
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from bus.errors import SettingsInvalid
from bus.logs import register_secret


def _check_listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if value and not (colon and host and port.isdigit() and int(port) < 65536):
        raise ValueError("must be HOST:PORT such as 127.0.0.1:9464")
    return value


ListenAddress = Annotated[str, AfterValidator(_check_listen)]
"""HOST:PORT where /healthz and /metrics are served; empty: nowhere."""

SETTINGS_FILE = "tvbus.toml"
"""Read from the current directory where it exists; names as below without TVBUS_."""


class BusSettings(BaseSettings):
    """Where the bus is and how this process speaks; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="TVBUS_", env_ignore_empty=True, extra="ignore", frozen=True
    )
    secrets: ClassVar[tuple[str, ...]] = ("redis_url",)

    redis_url: SecretStr | None = None
    """redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://; unset: embedded."""
    prefix: str = Field("tv", pattern=r"^[!-$&-z|~]+$")
    """First part of every key."""
    state_dir: Path = Path(platformdirs.user_state_dir("tvbus", appauthor=False))
    """The embedded server's data and the shared state of the processes of one user."""
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read the settings; flags that are None count as not given.

        Their secrets are registered with `bus.logs`. Raises SettingsInvalid with one
        line that names the first wrong setting.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            settings = cls(**given)
        except ValidationError as error:
            raise SettingsInvalid(_first_line(error, cls._shown_names())) from None
        except TOMLDecodeError as error:
            raise SettingsInvalid(f"{SETTINGS_FILE} cannot be read: {error}") from None
        except (OSError, ValueError) as error:
            raise SettingsInvalid(f"settings cannot be read: {error}") from error
        settings._register_secrets()
        return settings

    def _register_secrets(self) -> None:
        """Keep every secret out of the logs, however it got into a text."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name == "redis_url" and value is not None:
                credentials = value.get_secret_value().partition("://")[2].rpartition("@")[0]
                password = credentials.partition(":")[2]
                register_secret(password)
                register_secret(unquote(password))
            elif isinstance(value, SecretStr):
                register_secret(value)

    @classmethod
    def _shown_names(cls) -> frozenset[str]:
        """The settings whose wrong value may be shown."""
        return frozenset(
            name
            for name, field in cls.model_fields.items()
            if name not in cls.secrets and "Secret" not in str(field.annotation)
        )

    @field_validator("state_dir")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        try:
            return value.expanduser()
        except RuntimeError as error:
            raise ValueError(str(error)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources; the first that knows a setting wins."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=SETTINGS_FILE)
        return (init_settings, toml, env_settings, _SecretFiles(settings_cls))


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads TVBUS_NAME_FILE for each secret, as container platforms mount them."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        variable = f"TVBUS_{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if not path:
            return None, field_name, False
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsInvalid(
                f"{variable}: {path} cannot be read: {error.strerror or error}"
            ) from None
        except UnicodeDecodeError:
            raise SettingsInvalid(f"{variable}: {path} is not UTF-8 text") from None
        if not text:
            raise SettingsInvalid(f"{variable}: {path} is empty")
        return text, field_name, False

    def __call__(self) -> dict[str, Any]:
        settings = self.settings_cls
        assert issubclass(settings, BusSettings)
        values = {name: self.get_field_value(None, name)[0] for name in settings.secrets}
        return {name: value for name, value in values.items() if value is not None}


def _first_line(error: ValidationError, shown_names: frozenset[str]) -> str:
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        # A rule about several settings; its input is all of them, secrets too.
        return message
    name = str(first["loc"][0])
    told = name not in shown_names or " was " in message
    shown = "" if told else f", was {first['input']!r}"
    return f"TVBUS_{name.upper()}: {message}{shown}"
