"""Points in time: RFC 3339 with an offset, everywhere."""

from __future__ import annotations

from datetime import UTC, datetime


def parse_moment(text: str) -> datetime:
    """Read an RFC 3339 time such as ``2027-03-01T00:00:00Z``; ValueError when it is none or has no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return moment


def format_moment(moment: datetime) -> str:
    """Write a time as RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_day(moment: datetime) -> str:
    """Write the UTC day of a time, for sentences."""
    return moment.astimezone(UTC).date().isoformat()
