"""Words for reports: small grammar for counts, and what any object says of itself."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 check", "2 checks", "3 entries"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def text_of(value: object) -> str:
    """Return ``str(value)``, or which error came instead: a report must not break on what it tells of."""
    try:
        return str(value)
    except Exception as problem:
        return f"<{type(value).__name__} whose text raises {type(problem).__name__}>"
