"""What an error must not show of a service: traces, paths, queries, keys."""

from __future__ import annotations

import re

import httpx

INTERNALS = re.compile(
    r"Traceback|stack\s*trace|\.py\b|\.[jt]s:\d|node_modules|site-packages|/(?:app|usr|home|srv)/"
    r"|-----BEGIN|PRIVATE KEY|postgres(?:ql)?://|SELECT\s.+\sFROM\s|secretsmanager"
    r"|password[\"']?\s*[:=]\s*[\"']?\w",
    re.IGNORECASE,
)


def leak(answer: httpx.Response) -> str:
    """The first internal that an answer shows, in its body or its headers."""
    shown = answer.text + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    match = INTERNALS.search(shown)
    return match.group(0) if match else ""
