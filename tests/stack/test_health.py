"""Health reports a hanging database in time, although such a database does not even cancel a query."""

import time
from statistics import median

from tests.stack.embedded import Platform, together
from tests.stack.tools import poll, request

# Often enough that the abandoned queries hold every connection of a pool.
ASKED = 5


def _reports(platform: Platform) -> tuple[list[tuple[int, str]], list[float]]:
    """Status code and status of Freeside, Finn and Dixie, and the seconds that each answer took."""

    def ask(url: str) -> tuple[tuple[int, str], float]:
        asked = time.monotonic()
        status, body = request("GET", url)
        return (status, body["status"]), time.monotonic() - asked

    urls = (f"{platform.freeside}/health", f"{platform.finn}/health", f"{platform.dixie}/api/health")
    answers = together([lambda url=url: ask(url) for url in urls])  # type: ignore[misc]
    return [report for report, _ in answers], [took for _, took in answers]


def test_a_hanging_database_is_reported_in_time(platform: Platform) -> None:
    well, _ = _reports(platform)
    platform.control("POST", "/services/pgbouncer/pause")
    took = []
    for _ in range(ASKED):
        reports, seconds = _reports(platform)
        assert reports == [(503, "unhealthy"), (200, "unhealthy"), (200, "unhealthy")]
        took.append(seconds)
    # One late answer may be the machine's; a pool without a free connection makes each of them late.
    assert all(median(each) < 2 for each in zip(*took, strict=True)), took
    platform.control("POST", "/services/pgbouncer/resume")
    poll(lambda: _reports(platform)[0] == well, 15, "every service is well again")
    assert "never retrieved" not in _logs(platform)


def test_a_probe_that_waits_is_not_cancelled(platform: Platform) -> None:
    """PgBouncer 1.18 can break when it drops clients while their queries are being cancelled."""
    well, _ = _reports(platform)
    platform.control("PUT", "/faults/pgbouncer-serves-nobody")
    for _ in range(ASKED):
        _reports(platform)
    platform.control("DELETE", "/faults/pgbouncer-serves-nobody")
    poll(lambda: _reports(platform)[0] == well, 15, "every service is well again")
    assert "query cancellation" not in _logs(platform)


def _logs(platform: Platform) -> str:
    logs = platform.stack.run_dir / "logs"
    return "".join((logs / f"{name}.log").read_text() for name in ("freeside", "finn", "dixie"))
