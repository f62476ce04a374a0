"""Health reports a hanging database in time, although such a database does not even cancel a query."""

import time

from tests.stack.embedded import Platform, together
from tests.stack.tools import poll, request

# Often enough that the abandoned queries hold every connection of a pool.
ASKED = 5


def _reports(platform: Platform) -> list[tuple[int, str]]:
    """Status code and status of Freeside, Finn and Dixie, each within the time that the contract allows."""

    def ask(url: str) -> tuple[int, str]:
        asked = time.monotonic()
        status, body = request("GET", url, timeout=5)
        assert time.monotonic() - asked < 2, url
        return status, body["status"]

    urls = (f"{platform.freeside}/health", f"{platform.finn}/health", f"{platform.dixie}/api/health")
    return together([lambda url=url: ask(url) for url in urls])  # type: ignore[misc]


def test_a_hanging_database_is_reported_in_time(platform: Platform) -> None:
    well = _reports(platform)
    platform.control("POST", "/services/pgbouncer/pause")
    for _ in range(ASKED):
        assert _reports(platform) == [(503, "unhealthy"), (200, "unhealthy"), (200, "unhealthy")]
    platform.control("POST", "/services/pgbouncer/resume")
    poll(lambda: _reports(platform) == well, 15, "every service is well again")
    for name in ("freeside", "finn", "dixie"):
        assert "never retrieved" not in (platform.stack.run_dir / "logs" / f"{name}.log").read_text()
