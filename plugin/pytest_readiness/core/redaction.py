"""One redactor for all that leaves a run: known shapes of secrets, and every live value it loaded."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MARK = "[redacted]"
#: A line of a multi-line secret (PEM) that is at least this long gives the secret away by itself.
TELLING_LINE = 24
#: Shorter values are not looked for: they would blot out ordinary words, and they protect nothing.
SHORTEST = 6
_PASSWORDS = (re.compile(r"://[^:/@\s]*:([^@/\s]+)@"), re.compile(r"\bpassword=([^\s']+)"))
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
    or HTML. ``prefixes`` are the beginnings of a platform's own keys.
    """

    def __init__(self, values: Iterable[str] = (), prefixes: Iterable[str] = ()) -> None:
        keys = [re.compile(rf"\b{re.escape(prefix)}[\w-]{{6,}}", re.ASCII) for prefix in prefixes]
        self._shapes = (*_SHAPES, *((key, "[redacted api key]") for key in keys))
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
        for pattern, replacement in self._shapes:
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


def forms_of(value: str) -> frozenset[str]:
    """Return the value raw, escaped for JSON, HTML and URLs, in base64 at each alignment, line by line."""
    value = value.strip()
    lines = [line.strip() for line in value.splitlines()]
    telling = [line for line in lines if len(line) >= TELLING_LINE and not line.startswith("-----")]
    plain = {value, *(telling if len(lines) > 1 else ()), *_passwords(value)}
    return frozenset(form for text in plain for form in (*_escaped(text), *_base64(text)))


def _passwords(value: str) -> list[str]:
    """Return the password inside a connection string, as a URL or as libpq keywords, raw and decoded."""
    found = [match for pattern in _PASSWORDS for match in pattern.findall(value)]
    return [form for text in found for form in (text, unquote(text)) if len(form) >= SHORTEST]


def _escaped(text: str) -> set[str]:
    urls = {quote(text), quote(text, safe=""), quote_plus(text)}
    lower = {re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), url) for url in urls}
    in_json = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    in_html = {form for one in (text, *in_json) for form in _in_html(one)}
    return {text, *in_json, *in_html, *urls, *lower}


def _in_html(text: str) -> set[str]:
    """Escape for HTML with quotes named, untouched, and numeric as template engines write them."""
    named = html.escape(text)
    return {
        named,
        html.escape(text, quote=False),
        named.replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    }


def _base64(text: str) -> set[str]:
    """Encode at the three alignments that a value can have inside a larger whole (as in Basic auth)."""
    raw = text.encode()
    forms = set()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        # The first character(s) mix with what precedes, the last one with what follows.
        first = (0, 2, 3)[shift]
        last = len(encoded) - (1 if (shift + len(raw)) % 3 else 0)
        core = encoded[first:last]
        forms |= {core, core.replace("+", "-").replace("/", "_")}
    return {form for form in forms if form}
