"""A report replaces its predecessor atomically; one that contains a live secret is withheld."""

import json
from pathlib import Path
from typing import Any

import pytest
from pytest_readiness.core.errors import ReadinessError
from pytest_readiness.report import markdown, write_all

from tests.report import sample

SECRET = "s3cr3t-value"
REPORTS = {"readiness.json", "readiness.md", "readiness.html"}


class Scanner:
    """Finds one literal secret."""

    def leaks(self, data: bytes, /) -> list[str]:
        return ["auth.signing_key"] if SECRET.encode() in data else []


def written(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_both_reports_are_written(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "reports"
    assert write_all(sample.ready(), directory, Scanner()) == []
    assert written(directory) == REPORTS
    assert json.loads((directory / "readiness.json").read_text("utf-8")) == sample.ready()
    assert (directory / "readiness.md").read_text("utf-8") == markdown.render(sample.ready())


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    write_all(sample.ready(), tmp_path, Scanner())
    write_all(sample.unfinished(), tmp_path, Scanner())
    assert json.loads((tmp_path / "readiness.json").read_text())["verdict"] == "NO_VERDICT"
    assert "READY FOR FIRST DEPLOY" not in (tmp_path / "readiness.md").read_text()


def test_a_report_with_a_secret_is_withheld_and_so_is_its_predecessor(tmp_path: Path) -> None:
    write_all(sample.ready(), tmp_path, Scanner())
    model = sample.ready()
    model["checks"][0]["evidence"][0]["response"]["body"] = SECRET  # in JSON and HTML
    assert write_all(model, tmp_path, Scanner()) == ["readiness.json", "readiness.html"]
    assert written(tmp_path) == {"readiness.md"}


def test_the_html_page_is_scanned_too(tmp_path: Path) -> None:
    page = tmp_path / "results.html"
    page.write_text("<p>clean</p>")
    assert write_all(sample.ready(), tmp_path, Scanner()) == []
    page.write_text(f"<p>{SECRET}</p>")
    assert write_all(sample.ready(), tmp_path, Scanner()) == ["results.html"]
    assert written(tmp_path) == REPORTS


def test_text_that_utf8_cannot_encode_is_written_with_escapes(tmp_path: Path) -> None:
    model = {**sample.ready(), "notes": ["\udc80 broken"]}
    assert write_all(model, tmp_path, Scanner()) == []
    assert json.loads((tmp_path / "readiness.json").read_text("utf-8"))["notes"] == ["\udc80 broken"]


def test_a_reader_never_sees_half_a_report(tmp_path: Path) -> None:
    write_all(sample.ready(), tmp_path, Scanner())
    before = (tmp_path / "readiness.json").read_bytes()

    class Watching(Scanner):
        def leaks(self, data: bytes, /) -> list[str]:
            assert (tmp_path / "readiness.json").read_bytes() == before or data[:1] in b"#<"
            return super().leaks(data)

    write_all(sample.broken(), tmp_path, Watching())
    assert written(tmp_path) == REPORTS


@pytest.mark.parametrize("model", [{"checks": object()}], ids=["not-data"])
def test_a_failing_renderer_leaves_no_draft(tmp_path: Path, model: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        write_all(model, tmp_path, Scanner())
    assert written(tmp_path) == set()


def test_a_directory_that_cannot_be_written_is_an_error_of_three_lines(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(ReadinessError) as caught:
        write_all(sample.ready(), tmp_path / "reports", Scanner())
    lines = str(caught.value).splitlines()
    assert len(lines) <= 3
    assert "reports" in lines[0]
    assert "--readiness-dir" in lines[-1]
