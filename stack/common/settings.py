"""A service's configuration, read once from the environment that the supervisor gives it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVICES = ("freeside", "worker", "finn", "dixie", "provider")


class SettingsError(RuntimeError):
    """The environment of the process does not configure the service; the text says which variable and why."""


#: Who issues a service's tokens, and for whom tokens that it accepts must be.
ISSUERS = {"freeside": "arrakis", "finn": "loa-finn"}
AUDIENCES = {"freeside": "arrakis", "finn": "loa-finn", "dixie": "loa-dixie"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of a service process. URLs have no trailing slash; durations are seconds.

    `renamed` holds `paths` and `headers` by the names that they have inside of the service.
    """

    service: str
    port: int
    dsn: str
    faults_file: Path | None
    build_sha: str
    aws_endpoint: str
    aws_region: str
    aws_access_key_id: str
    aws_secret_access_key: str
    secret_id: str
    secret_poll_s: float
    jwks_cache_s: float
    score_cache_s: float
    reserve_times: int
    waits_for_keys: bool
    finishes_streams: bool
    freeside_url: str
    finn_url: str
    dixie_url: str
    provider_url: str
    facilitator_url: str
    x402_network: str
    x402_asset: str
    x402_payee: str
    dixie_api_key_file: Path | None
    issuers: Mapping[str, str]
    audiences: Mapping[str, str]
    renamed: Mapping[str, Mapping[str, str]]
    calls_per_s: int

    @classmethod
    def from_environ(cls, service: str, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the STACK_* and AWS_* variables; raises SettingsError naming the first unusable one."""
        env = os.environ if environ is None else environ
        if service not in SERVICES:
            raise SettingsError(f"unknown service {service!r}\nallowed: {', '.join(SERVICES)}")
        # The worker is Freeside's second process: same database user, same key.
        owner = "freeside" if service == "worker" else service
        prefix = env.get("STACK_PREFIX", "arrakis-staging")
        return cls(
            service=service,
            port=int(_number(env, "STACK_PORT", 0)),
            dsn=env.get("STACK_DSN", ""),
            faults_file=_path(env, "STACK_FAULTS_FILE"),
            build_sha=env.get("STACK_BUILD_SHA", "0" * 40),
            aws_endpoint=_url(env, "STACK_AWS_ENDPOINT"),
            aws_region=env.get("AWS_DEFAULT_REGION") or env.get("AWS_REGION") or "us-east-1",
            aws_access_key_id=env.get("AWS_ACCESS_KEY_ID", "test"),
            aws_secret_access_key=env.get("AWS_SECRET_ACCESS_KEY", "test"),
            secret_id=env.get("STACK_SECRET_ID") or f"{prefix}/{owner}/es256-private-key",
            secret_poll_s=_number(env, "STACK_SECRET_POLL_S", 1.0),
            jwks_cache_s=_number(env, "STACK_JWKS_CACHE_S", 5.0),
            score_cache_s=_number(env, "STACK_SCORE_CACHE_S", 0.0),
            reserve_times=int(_number(env, "STACK_RESERVE_TIMES", 1)),
            freeside_url=_url(env, "STACK_FREESIDE_URL"),
            finn_url=_url(env, "STACK_FINN_URL"),
            dixie_url=_url(env, "STACK_DIXIE_URL"),
            provider_url=_url(env, "STACK_PROVIDER_URL"),
            facilitator_url=_url(env, "STACK_FACILITATOR_URL"),
            x402_network=env.get("STACK_X402_NETWORK", ""),
            x402_asset=env.get("STACK_X402_ASSET", ""),
            x402_payee=env.get("STACK_X402_PAYEE", ""),
            dixie_api_key_file=_path(env, "STACK_DIXIE_API_KEY_FILE"),
            issuers={name: env.get(f"STACK_{name.upper()}_ISSUER", one) for name, one in ISSUERS.items()},
            audiences={
                name: env.get(f"STACK_{name.upper()}_AUDIENCE", one) for name, one in AUDIENCES.items()
            },
            renamed=json.loads(env.get("STACK_RENAMED", "{}")).get(service, {}),
            calls_per_s=int(_number(env, "STACK_CALLS_PER_S", 0)),
            waits_for_keys=_number(env, "STACK_WAITS_FOR_KEYS", 1) > 0,
            finishes_streams=_number(env, "STACK_FINISHES_STREAMS", 0) > 0,
        )


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise SettingsError(f"{name}={text!r} is not a number") from None


def _url(env: Mapping[str, str], name: str) -> str:
    return env.get(name, "").rstrip("/")


def _path(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(name, "")
    return Path(text) if text else None
