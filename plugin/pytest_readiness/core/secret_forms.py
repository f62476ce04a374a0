"""The forms in which a secret value can turn up in an artifact."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus, unquote

#: A line of a multi-line secret (PEM) that is at least this long gives the secret away by itself.
TELLING_LINE = 24
#: Shorter values are not looked for: they would blot out ordinary words, and they protect nothing.
SHORTEST = 6
_PASSWORDS = (re.compile(r"://[^:/@\s]*:([^@/\s]+)@"), re.compile(r"\bpassword=([^\s']+)"))


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
