"""What the server's administrator can set through environment variables; ``docs/server.md`` explains them."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "PRATO_LABEL_"
#: A shorter token can be guessed by trying.
_TOKEN_CHARACTERS = 16


class SettingsError(ValueError):
    """A setting that cannot be used; the message is one sentence."""


class Settings(BaseSettings):
    """The environment variables ``PRATO_LABEL_<NAME>``.

    Attributes:
        token: what every request must carry; token_file: a file that holds it instead.
        origins: web pages of other origins that may use the server, such as ``https://viewer.example``.
        max_request_mb: largest upload, in MiB.
        max_waiting: inferences that may wait for the one that computes.
        approve_own: whether people may approve what they drew themselves, for those who work alone.
        pacs_user, pacs_password: for a PACS as the studies folder; pacs_token: a bearer token instead.
        pacs_folder: where labels, and images that were opened, are kept of a PACS; None for a folder of its own in the home folder.
        pacs_cache_gb: what the opened images without labels may take there, in GiB.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    token: SecretStr | None = None
    token_file: Path | None = None
    origins: Annotated[tuple[str, ...], NoDecode] = ()
    max_request_mb: Annotated[int, Field(ge=1, le=65536)] = 512
    max_waiting: Annotated[int, Field(ge=0, le=30)] = 8
    approve_own: bool = False
    pacs_user: str | None = None
    pacs_password: SecretStr | None = None
    pacs_token: SecretStr | None = None
    pacs_folder: Path | None = None
    pacs_cache_gb: Annotated[float, Field(gt=0, le=65536)] = 20

    @field_validator("origins", mode="before")
    @classmethod
    def _listed(cls, text: str | Sequence[str]) -> tuple[str, ...]:
        origins = tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else tuple(text)
        for origin in origins:
            url = urlsplit(origin)
            if origin != f"{url.scheme}://{url.netloc}" or url.scheme not in ("http", "https") or not url.netloc:
                raise ValueError("must be origins such as https://viewer.example, separated by commas")
        return origins

    def read_token(self) -> bytes | None:
        """The token, from the variable or the file; None where neither is set.

        Raises:
            SettingsError: both are set, the file cannot be read, or the token is too short or holds spaces or other than ASCII.
        """
        if self.token is not None and self.token_file is not None:
            raise SettingsError(f"{PREFIX}TOKEN and {PREFIX}TOKEN_FILE are both set: set one of them.")
        token = self.token.get_secret_value() if self.token is not None else None
        name = f"{PREFIX}TOKEN"
        if self.token_file is not None:
            name = f"The file {self.token_file} of {PREFIX}TOKEN_FILE"
            try:
                token = self.token_file.read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                raise SettingsError(f"{name} cannot be read: name a text file that holds the token.") from error
        if token is None:
            return None
        if len(token) < _TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
            raise SettingsError(
                f"{name} must hold at least {_TOKEN_CHARACTERS} letters, digits or signs without spaces: "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes a good one."
            )
        return token.encode("ascii")


def load_settings() -> Settings:
    """The settings as the environment has them now.

    Raises:
        SettingsError: a value that is not allowed.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name, reason = str(first["loc"][0]).upper(), first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{PREFIX}{name} cannot be used: {reason}.") from error


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def folder_for_pacs(settings: Settings, url: str) -> Path:
    """Where the labels, and the opened images, of the PACS at ``url`` are kept."""
    host = re.sub(r"[^A-Za-z0-9.-]", "_", urlsplit(url).netloc)[:60]
    mark = hashlib.sha256(url.rstrip("/").encode("utf-8", "replace")).hexdigest()[:8]
    return settings.pacs_folder or Path.home() / "prato-label" / f"{host}-{mark}"
