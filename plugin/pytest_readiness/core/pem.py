"""Is a text a P-256 private key? Told from its PEM frame and its DER, without a crypto library."""

from __future__ import annotations

import base64
import binascii
import re

_FRAME = re.compile(r"-----BEGIN (?P<label>[A-Z0-9 ]+)-----(?P<body>.*?)-----END (?P=label)-----", re.DOTALL)
_LABELS = ("PRIVATE KEY", "EC PRIVATE KEY")
#: DER of the object identifier 1.2.840.10045.3.1.7 (prime256v1), the name of the curve in both containers.
_P256 = bytes.fromhex("06082a8648ce3d030107")
_SEQUENCE = 0x30


def p256_problem(text: str) -> str:
    """Return what keeps a text from being a P-256 private key in PEM, to complete a sentence, or ""."""
    blocks = [match for match in _FRAME.finditer(text) if match["label"] != "EC PARAMETERS"]
    if not blocks:
        return "is not PEM"
    if blocks[0]["label"] not in _LABELS:
        return f"holds {blocks[0]['label']}, not an unencrypted private key"
    try:
        der = base64.b64decode("".join(blocks[0]["body"].split()), validate=True)
    except binascii.Error:
        return "is damaged: its body is not base64"
    if not _is_whole(der):
        return "is damaged: its body is not one DER sequence"
    if _P256 not in der:
        return "is not a P-256 key"
    return ""


def _is_whole(der: bytes) -> bool:
    """Tell whether the bytes are one DER sequence that ends where its length says."""
    if len(der) < 2 or der[0] != _SEQUENCE:
        return False
    if der[1] < 0x80:
        return len(der) == 2 + der[1]
    size = der[1] & 0x7F
    return len(der) == 2 + size + int.from_bytes(der[2 : 2 + size], "big")
