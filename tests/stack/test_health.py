"""Health tells of a database that hangs, and in time, though such a one does not even give a query up."""

import time

from tests.stack.embedded import Platform, together
from tests.stack.tools import poll, request

# Often enough that the questions left behind hold every connection that there is.
ASKED = 5


def _told(platform: Platform) -> list[tuple[int, str]]:
    """What Freeside, Finn and Dixie say of themselves, none later than the contract allows."""

    def ask(url: str) -> tuple[int, str]:
        asked = time.monotonic()
        status, body = request("GET", url, timeout=5)
        assert time.monotonic() - asked < 2, url
        return status, body["status"]

    urls = (f"{platform.freeside}/health", f"{platform.finn}/health", f"{platform.dixie}/api/health")
    return together([lambda url=url: ask(url) for url in urls])  # type: ignore[misc]


def test_a_database_that_hangs_is_told_in_time(platform: Platform) -> None:
    well = _told(platform)
    platform.control("POST", "/services/pgbouncer/pause")
    for _ in range(ASKED):
        assert _told(platform) == [(503, "unhealthy"), (200, "unhealthy"), (200, "unhealthy")]
    platform.control("POST", "/services/pgbouncer/resume")
    poll(lambda: _told(platform) == well, 15, "every service is well again")
    for name in ("freeside", "finn", "dixie"):
        assert "never retrieved" not in (platform.stack.run_dir / "logs" / f"{name}.log").read_text()
