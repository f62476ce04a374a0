"""The signing keys' secrets, created in the emulator's process before it listens.

The services need nothing else of AWS to start: they do not wait for the rest of the seed.
"""

from __future__ import annotations

import json

from stack.aws.names import SIGNERS, secret_id


def new_key(curve: str = "secp256r1") -> str:
    """Return a fresh private key, PKCS#8 PEM, on P-256 or on P-384 (`secp384r1`)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1() if curve == "secp384r1" else ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


async def create() -> None:
    """Create the secret of every signer, each with a key that exists nowhere else."""
    from ministack.services import secretsmanager

    headers = {"x-amz-target": "secretsmanager.CreateSecret"}
    for service in SIGNERS:
        body = json.dumps({"Name": secret_id(service), "SecretString": new_key()}).encode()
        status, _, answer = await secretsmanager.handle_request("POST", "/", headers, body, {})
        if status != 200:
            raise RuntimeError(f"the emulator did not create {secret_id(service)}: {answer!r}")
