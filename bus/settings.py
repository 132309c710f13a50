"""Settings that every process of the bus shares.

From the environment, a `tvbus.toml` file and flags, in rising order of
precedence; a secret NAME may also stand in a file named by NAME_FILE.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import platformdirs
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from bus.errors import SettingsInvalid

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

        Raises SettingsInvalid with one line that names the first wrong setting.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise SettingsInvalid(_first_line(error)) from None
        except (OSError, ValueError) as error:
            raise SettingsInvalid(f"settings cannot be read: {error}") from error

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
        path = os.environ.get(f"TVBUS_{field_name.upper()}_FILE")
        if not path:
            return None, field_name, False
        return Path(path).read_text(encoding="utf-8").strip(), field_name, False

    def __call__(self) -> dict[str, Any]:
        settings = self.settings_cls
        assert issubclass(settings, BusSettings)
        values = {name: self.get_field_value(None, name)[0] for name in settings.secrets}
        return {name: value for name, value in values.items() if value is not None}


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "settings"
    secret = "redis_url" in name or "token" in name or "secret" in name or "password" in name
    shown = "" if secret else f", was {first['input']!r}"
    message = first["msg"].removeprefix("Value error, ")
    return f"TVBUS_{name.upper()}: {message}{shown}"
