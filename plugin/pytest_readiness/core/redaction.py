"""One redactor for all that leaves a run: known shapes of secrets, and every live value it loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .secret_forms import SHORTEST, forms_of

MARK = "[redacted]"
#: Short texts found clean are remembered: header names and paths come thousands of times in one run.
_MEMORY_TEXTS = 20_000
_MEMORY_CHARACTERS = 200

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, flags), replacement)
    for pattern, flags, replacement in (
        (
            r"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)",
            re.DOTALL,
            "[redacted private key]",
        ),
        (r"\beyJ[\w-]{4,2048}\.[\w-]{4,}(?:\.[\w-]*)?", re.ASCII, "[redacted jwt]"),
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", 0, "[redacted aws key id]"),
        (
            r"(secret_?access_?key|session_?token)([\"']?\s*[:=>]+\s*[\"']?)[A-Za-z0-9/+=]{16,}",
            re.IGNORECASE,
            rf"\1\2{MARK}",
        ),
        (r"\b0x[0-9a-fA-F]{64}\b", 0, "[redacted 32-byte hex]"),
        (r"\b(bearer)\s+(?:(?=[^\s\"']*\d)[\w.~+/=-]{8,}|[\w.~+/=-]{20,})", re.IGNORECASE, rf"\1 {MARK}"),
        (r"(authorization[\"']?\s*[:=]\s*[\"']?basic)\s+[\w+/=-]+", re.IGNORECASE, rf"\1 {MARK}"),
        (r"(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/@\"'<>]+@", re.IGNORECASE, rf"\1{MARK}@"),
        (r"\bdxk_[\w-]{6,}", re.ASCII, "[redacted api key]"),
    )
)
_SECRET_KEYS = re.compile(
    r"^(?:(?:proxy-)?authorization|(?:set-)?cookie|x-api-key|api[_-]?key|password|passwd|secret|"
    r"(?:client|access|refresh|id)[_-](?:secret|token)|private[_-]?key|secretstring|x-payment|"
    r"payment-signature)$",
    re.IGNORECASE,
)


class Redactor:
    """Removes secrets from text and data. Redacting twice changes nothing more.

    ``values`` are live secrets to remove wherever they appear: raw, base64, URL-encoded, or escaped for JSON
    or HTML.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms: dict[str, frozenset[str]] = {}
        self._longest_first: list[str] = []
        self._clean: set[str] = set()
        for value in values:
            self.add(value)

    def add(self, value: str, name: str = "") -> None:
        """Register a live secret under the name that reports may show; values shorter than 6 are ignored."""
        if len(value.strip()) < SHORTEST:
            return
        label = name or f"secret-{len(self._forms) + 1}"
        self._forms[label] = self._forms.get(label, frozenset()) | forms_of(value)
        forms = {form for forms in self._forms.values() for form in forms}
        self._longest_first = sorted(forms, key=len, reverse=True)
        self._clean.clear()

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        if text in self._clean:
            return text
        redacted = text
        for form in self._longest_first:
            if form in redacted:
                redacted = redacted.replace(form, MARK)
        for pattern, replacement in _SHAPES:
            redacted = pattern.sub(replacement, redacted)
        if redacted == text and len(text) <= _MEMORY_CHARACTERS and len(self._clean) < _MEMORY_TEXTS:
            self._clean.add(text)
        return redacted

    def data(self, value: Any) -> Any:
        """Return JSON-like data without secrets: told by their content, or by the name of their key."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._key(key): self._member(key, member, value) for key, member in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.data(member) for member in value]
        return value

    def leaks(self, content: bytes) -> list[str]:
        """Return the names of registered secrets that the bytes hold in any of their forms."""
        return [
            name for name, forms in self._forms.items() if any(form.encode() in content for form in forms)
        ]

    def _key(self, key: Any) -> Any:
        return self.text(key) if isinstance(key, str) else key

    def _member(self, key: Any, member: Any, owner: Mapping[Any, Any]) -> Any:
        private_jwk = key in ("d", "p", "q", "dp", "dq", "qi", "k") and "kty" in owner
        secret = private_jwk or (isinstance(key, str) and _SECRET_KEYS.match(key))
        if not secret or not isinstance(member, str) or not member:
            return self.data(member)
        scheme, _, rest = member.partition(" ")
        return f"{scheme} {MARK}" if rest and scheme.lower() in ("bearer", "basic", "dpop") else MARK
