"""Alterations of the signing keys' secrets, by the service whose key it is."""

from __future__ import annotations

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


def secret_missing(emulator: Emulator, service: str) -> None:
    """Delete a secret at once."""
    emulator.aws("secretsmanager").delete_secret(SecretId=secret_id(service), ForceDeleteWithoutRecovery=True)


ALTERATIONS: dict[str, Alteration] = {
    "secret-value": secret_value,
    "secret-on-another-curve": secret_on_another_curve,
    "secret-copied": secret_copied,
    "secret-missing": secret_missing,
}
