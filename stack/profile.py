"""The environment profile of a running stack: addresses and references, never a secret's value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stack.aws import key_operator
from stack.aws.names import PREFIX, REGION, secret_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# A secret is re-read every second, a JWKS cached for five: a change is in force well within `propagation_s`.
# Every token is used at once, so the old key is not needed for long after a switch.
KEYS = {
    "propagation_s": 10,
    "steady_s": 1,
    "watch_s": 3,
    "reread_s": 1,
    "revocation_limit_s": 10,
    "operator_arn": key_operator.ARN,
}


def build(
    urls: Mapping[str, str], control_url: str, aws_endpoint: str, api_key: Path, dsns: Mapping[str, Path]
) -> dict[str, Any]:
    """Return the profile, section by section; `dsns` maps a key of [pgbouncer] to the file that holds it."""
    return {
        "name": "local",
        "live": False,
        "protected": False,
        "freeside": {
            "url": urls["freeside"],
            "invoke_dialect": "prompt",
            "stream_dialect": "endpoint",
            "budget_dialect": "community",
            "restart_url": f"{control_url}/services/freeside/restart",
        },
        "dixie": {
            "url": urls["dixie"],
            "api_key": f"file:{api_key}",
            "cache_s": 0,
            "restart_url": f"{control_url}/services/dixie/restart",
        },
        "finn": {
            "url": urls["finn"],
            "reachable": True,
            "restart_url": f"{control_url}/services/finn/restart",
        },
        "pgbouncer": {**{key: f"file:{path}" for key, path in dsns.items()}, "reachable": True},
        "auth": {
            "signing_key": f"secretsmanager:{secret_id('freeside')}",
            "finn_signing_key": f"secretsmanager:{secret_id('finn')}",
            "community_id": "test-community-staging-001",
            "other_community_id": "test-community-staging-002",
            "small_community_id": "test-community-staging-003",
            "nft_id": "smoke-agent-001",
            "other_nft_id": "smoke-agent-002",
        },
        "aws": {"region": REGION, "prefix": PREFIX, "endpoint_url": aws_endpoint},
        "keys": dict(KEYS),
        "budget": {"max_spend_cents": 200},
        # nothing here is far away: held to less than the 30 s of the contract and the 60 s of the fire drill
        "limits": {"propagation_s": 8, "notification_s": 5},
    }


def to_toml(profile: Mapping[str, Any]) -> str:
    """Return the profile as a TOML file: plain values first, then one table per section."""
    # A JSON string, number or boolean is written the same in TOML.
    plain = [f"{key} = {json.dumps(value)}" for key, value in profile.items() if not isinstance(value, dict)]
    tables = [
        "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())])
        for name, section in profile.items()
        if isinstance(section, dict)
    ]
    return "\n\n".join(["\n".join(plain), *tables]) + "\n"
