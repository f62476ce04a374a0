"""The names that contract section 4 gives to things in AWS."""

from __future__ import annotations

REGION = "us-east-1"
PREFIX = "arrakis-staging"
ACCOUNT = "000000000000"
# The services that hold a signing key of their own.
SIGNERS = ("freeside", "finn", "dixie")
# The emulator accepts any credentials; these say what they are.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "embedded-platform",
    "AWS_SECRET_ACCESS_KEY": "embedded-platform-emulator-only",
    "AWS_DEFAULT_REGION": REGION,
}


def secret_id(service: str) -> str:
    """Return the Secrets Manager id of a service's signing key."""
    return f"{PREFIX}/{service}/es256-private-key"
