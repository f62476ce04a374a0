"""Alterations of the signing keys' secrets, by the service whose key it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from stack.aws.keys import new_key
from stack.aws.names import secret_id

if TYPE_CHECKING:
    from stack.aws.emulator import Alteration, Emulator


def secret_value(emulator: Emulator, service: str, value: str) -> None:
    """Put any text into a secret, such as PLACEHOLDER."""
    emulator.aws("secretsmanager").put_secret_value(SecretId=secret_id(service), SecretString=value)


def secret_on_another_curve(emulator: Emulator, service: str) -> None:
    """Put a P-384 key into a secret."""
    secret_value(emulator, service, new_key("secp384r1"))


def secret_copied(emulator: Emulator, service: str, of: str) -> None:
    """Put another service's key into a secret."""
    value = emulator.aws("secretsmanager").get_secret_value(SecretId=secret_id(of))["SecretString"]
    secret_value(emulator, service, value)


def secret_renewed(emulator: Emulator, service: str) -> None:
    """Put a fresh key into a secret, as a rotation without any overlap would."""
    secret_value(emulator, service, new_key())


def secret_half_rotated(emulator: Emulator, service: str) -> None:
    """Add a pending key that no run of a rotation will ever finish."""
    current = emulator.aws("secretsmanager").get_secret_value(SecretId=secret_id(service))["SecretString"]
    half = {"schemaVersion": 1, "activeKid": "by-hand", "privateKey": current}
    pending = {"pendingKid": "left-behind", "pendingPrivateKey": new_key()}
    secret_value(emulator, service, json.dumps({**half, **pending}))


def secret_missing(emulator: Emulator, service: str) -> None:
    """Delete a secret at once."""
    emulator.aws("secretsmanager").delete_secret(SecretId=secret_id(service), ForceDeleteWithoutRecovery=True)


ALTERATIONS: dict[str, Alteration] = {
    "secret-value": secret_value,
    "secret-on-another-curve": secret_on_another_curve,
    "secret-copied": secret_copied,
    "secret-missing": secret_missing,
    "secret-renewed": secret_renewed,
    "secret-half-rotated": secret_half_rotated,
}
