"""The signed verdict: a DSSE envelope around an in-toto statement of the type test-result.

Specifications: DSSE v1 (github.com/secure-systems-lab/dsse), in-toto Statement v1 and test-result v0.1
(github.com/in-toto/attestation). Additional data for a launch is in the predicate's field ``readiness``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ..core.errors import ReadinessError
from ..core.formats import canonical_json
from ..core.model import Outcome, Verdict
from .columns import rows

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
#: The usual hash of each curve: ecdsa-sha2-nistp256 and ecdsa-sha2-nistp384.
_HASHES: Mapping[str, hashes.HashAlgorithm] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384()}
KEYS = "a PEM of an Ed25519, P-256 or P-384 key, without a passphrase"
_RESULTS = {Verdict.READY: "PASSED", Verdict.DEGRADED: "WARNED"}
_KEPT = (
    *("run_id", "environment", "live", "scope", "complete", "started_at", "finished_at", "verdict"),
    *("exit_code", "declaration", "build_identity", "runner"),
)
PrivateKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


class NotGenuine(Exception):
    """An envelope that proves nothing: malformed, of another type, or not signed by this key."""


def private_key(pem: str, where: str) -> PrivateKey:
    """Read a signing key; ReadinessError, which never quotes it, for anything else."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, PrivateKey) and _is_accepted(key):
        return key
    raise ReadinessError("no key to sign with", where=where, allowed=KEYS)


def public_key(pem: str, where: str) -> PublicKey:
    """Read a key to verify with; ReadinessError for anything else, a private key included."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, PublicKey) and _is_accepted(key):
        return key
    action = "openssl pkey -in KEY.pem -pubout -out KEY.pub.pem"
    raise ReadinessError("not a public key", where=where, allowed=KEYS, action=action)


def _is_accepted(key: PrivateKey | PublicKey) -> bool:
    """Tell whether a key is on an accepted curve; Ed25519 has only one."""
    return not hasattr(key, "curve") or key.curve.name in _HASHES


def statement(model: Mapping[str, Any], report: bytes) -> dict[str, Any]:
    """Return the statement about a run: its builds, suite, plan and ``report`` (the bytes of its JSON)."""
    suite, plan = (
        {"name": name, "digest": {"sha256": model[f"{name}_digest"]}} if model.get(f"{name}_digest") else None
        for name in ("suite", "plan")
    )
    made = {"name": "readiness.json", "digest": {"sha256": hashlib.sha256(report).hexdigest()}}
    builds = (model.get("build_identity") or {}).items()
    checks = rows(model, "checks")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            *(_build(name, build) for name, build in builds if build),
            *filter(None, (suite, plan, made)),
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": _RESULTS.get(Verdict(model["verdict"]), "FAILED"),
            "configuration": [*filter(None, (suite, plan))],
            **({"url": model["runner"]} if model.get("runner") else {}),
            "passedTests": _ids(checks, Outcome.PASSED),
            "warnedTests": _ids(checks, Outcome.FLAKY, Outcome.DEFERRED),
            "failedTests": _ids(checks, Outcome.FAILED, Outcome.NOT_RUN),
            "readiness": {key: model[key] for key in _KEPT if key in model},
        },
    }


def _build(service: str, build: str) -> dict[str, Any]:
    """Return a build as a subject: its id if that is a digest, else the digest of the id's text."""
    digest = {"sha256": hashlib.sha256(build.encode()).hexdigest()}
    if re.fullmatch(r"[0-9a-f]{40}", build):
        digest = {"gitCommit": build}
    elif found := re.fullmatch(r"sha256:([0-9a-f]{64})", build):
        digest = {"sha256": found[1]}
    return {"name": service, "digest": digest, "annotations": {"buildId": build}}


def _ids(checks: Sequence[Mapping[str, Any]], *outcomes: Outcome) -> list[str]:
    return [check["id"] for check in checks if check.get("outcome") in outcomes]


def signed(content: Mapping[str, Any], key: PrivateKey) -> str:
    """Return the envelope of a statement as JSON text."""
    payload = canonical_json(content)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(_encoded(payload))
    else:
        signature = key.sign(_encoded(payload), ec.ECDSA(_HASHES[key.curve.name]))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope, indent=1) + "\n"


def opened(envelope: str, key: PublicKey) -> dict[str, Any]:
    """Return the statement in an envelope that this key signed; NotGenuine for any other."""
    try:
        found = json.loads(envelope)
        payload = base64.b64decode(found["payload"], validate=True)
        signatures = [base64.b64decode(entry["sig"], validate=True) for entry in found["signatures"]]
        kind = found["payloadType"]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise NotGenuine("it is not a DSSE envelope") from None
    if kind != PAYLOAD_TYPE:
        raise NotGenuine("it contains no in-toto statement")
    if not any(_fits(signature, payload, key) for signature in signatures):
        raise NotGenuine(f"key {key_id(key)} did not sign it")
    try:
        content = json.loads(payload)
        types = content["_type"], content["predicateType"]
    except (ValueError, KeyError, TypeError, RecursionError):
        types = None
    if types != (STATEMENT_TYPE, PREDICATE_TYPE) or not isinstance(_own(content), dict):
        raise NotGenuine("it is signed, but it is not a verdict of readiness")
    return dict(content)


def _own(content: Mapping[str, Any]) -> object:
    predicate = content.get("predicate")
    return predicate.get("readiness") if isinstance(predicate, dict) else None


def _fits(signature: bytes, payload: bytes, key: PublicKey) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, _encoded(payload))
        else:
            key.verify(signature, _encoded(payload), ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature:
        return False
    return True


def _encoded(payload: bytes) -> bytes:
    """Return the bytes to sign: the payload with its type, in DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(key: PublicKey) -> str:
    """Return the SHA-256 of a public key's DER form, in hex."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()
