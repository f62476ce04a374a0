"""Reports: one renderer per format, all reading the same model; none of them counts, judges or exits."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ..core.errors import ReadinessError, remedy
from . import exports, html, markdown

if TYPE_CHECKING:
    from .attestation import PrivateKey

#: pytest-html's page of raw results, which is scanned together with our reports.
RESULTS_NAME = "results.html"
#: The signed verdict, which a run with ``--attest`` writes last.
ATTESTATION_NAME = "readiness.intoto.json"
HTML_NAME = "readiness.html"
JSON_NAME = "readiness.json"
#: Subdirectory for reports of partial and refused runs, so that a full run's stay.
PARTIAL_NAME = "partial"
#: The age of a draft that no living run will still replace, in seconds.
_ABANDONED_S = 3600
Renderer: TypeAlias = Callable[[Mapping[str, Any]], str]
#: Reports that every run writes.
STANDARD: Mapping[str, Renderer] = {
    JSON_NAME: exports.plain_json,
    "readiness.md": markdown.render,
    HTML_NAME: html.render,
}
#: Reports on request: the format's name -> its file and renderer.
FORMATS: Mapping[str, tuple[str, Renderer]] = {
    "csv": ("readiness.csv", exports.table),
    "ctrf": ("readiness.ctrf.json", exports.ctrf),
    "prometheus": ("readiness.prom", exports.prometheus),
    "text": ("readiness.txt", exports.chat),
}
#: The files of all of them.
NAMES = (*STANDARD, *(name for name, _ in FORMATS.values()))


class LeakScanner(Protocol):
    """Finds live secrets in the bytes of an artifact."""

    def leaks(self, data: bytes, /) -> list[str]:
        """Return the names of the secrets found."""
        ...


class Drafts:
    """Reports that are rendered, scanned and written, each under a name of a draft until :meth:`publish`.

    They are the standard reports and those in ``formats``; ``brief``: with a page for a run without results,
    which needs no template. ``leaked`` names those that contain a secret, possibly pytest-html's page. Raises
    ReadinessError if the directory cannot be written.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        directory: Path,
        redactor: LeakScanner,
        formats: Collection[str] = (),
        *,
        brief: bool = False,
    ) -> None:
        self._directory = directory
        self.leaked: list[str] = []
        self._contents: dict[str, bytes] = {}
        wanted = {**STANDARD, **dict(FORMATS[name] for name in formats)}
        if brief:
            wanted[HTML_NAME] = html.brief
        try:
            with _translated(directory):
                directory.mkdir(parents=True, exist_ok=True)
                for name, render in wanted.items():
                    self._prepare(name, _encoded(render(model)), redactor)
                page = directory / RESULTS_NAME
                if page.is_file() and redactor.leaks(page.read_bytes()):
                    self.leaked.append(RESULTS_NAME)
        except BaseException:
            self.drop()
            raise

    def publish(self, filled: Mapping[str, str] | None = None) -> list[str]:
        """Give each report its name in one step, so that a reader sees either the old or the new one.

        ``filled`` maps placeholders to their values, which are known now. If a report leaks a secret, its
        predecessor is removed, so that it is not mistaken for this run's; so are an earlier run's reports in
        formats that were not requested. Returns the names that are withheld.
        """
        with _translated(self._directory):
            for name in NAMES:
                if name not in self._contents:
                    (self._directory / name).unlink(missing_ok=True)
            for name, content in self._contents.items():
                draft = _draft(self._directory / name)
                if changed := _filled(content, filled or {}):
                    with draft.open("r+b") as file:  # the disk space is already allocated
                        file.write(changed)
                        file.truncate()
                draft.replace(self._directory / name)
            if RESULTS_NAME in self.leaked:
                (self._directory / RESULTS_NAME).unlink(missing_ok=True)
        return self.leaked

    def drop(self) -> None:
        """Remove the drafts."""
        for name in self._contents:
            with contextlib.suppress(OSError):
                _draft(self._directory / name).unlink(missing_ok=True)

    def _prepare(self, name: str, content: bytes, redactor: LeakScanner) -> None:
        if redactor.leaks(content):
            self.leaked.append(name)
            return
        self._contents[name] = content
        path = self._directory / name
        _draft(path).write_bytes(content)
        if path.is_dir():  # a file cannot replace a directory later
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _filled(content: bytes, filled: Mapping[str, str]) -> bytes:
    """Return a content with placeholders replaced by their values."""
    changed = content
    for placeholder, text in filled.items():
        changed = changed.replace(placeholder.encode(), text.encode())
    return b"" if changed is content else changed


def write_all(
    model: Mapping[str, Any],
    directory: Path,
    redactor: LeakScanner,
    formats: Collection[str] = (),
    *,
    brief: bool = False,
) -> list[str]:
    """Write the reports of ``model`` like :class:`Drafts`, at once; return the names that are withheld."""
    return Drafts(model, directory, redactor, formats, brief=brief).publish()


def append_summary(model: Mapping[str, Any], redactor: LeakScanner) -> str:
    """Append the report to the job summary if GitHub Actions wants one; return what prevented it."""
    if not (name := os.environ.get(markdown.SUMMARY)):
        return ""
    path = Path(name)
    try:
        text = markdown.job_summary(model, path.stat().st_size if path.exists() else 0)
        data = text.encode("utf-8", "backslashreplace")
        if redactor.leaks(data):
            return "a live secret was found in the job summary; it is withheld"
        with path.open("ab") as file:
            file.write(data)
    except OSError as problem:
        return f"{markdown.SUMMARY} cannot be written: {problem.strerror or problem}"
    return ""


def attest(model: Mapping[str, Any], directory: Path, key: PrivateKey, redactor: LeakScanner) -> None:
    """Sign the verdict of the report in a directory, next to it; ReadinessError if that fails."""
    from . import attestation  # imports cryptography, which most runs do not need

    with _translated(directory):
        text = attestation.signed(attestation.statement(model, (directory / JSON_NAME).read_bytes()), key)
        if not replace_file(directory / ATTESTATION_NAME, text, redactor):
            raise ReadinessError("a live secret was found in the signed verdict; it is withheld")


def report_of(directory: Path) -> Path:
    """Return the JSON report of the last run, full or partial."""
    full, partial = directory / JSON_NAME, directory / PARTIAL_NAME / JSON_NAME
    found = [path for path in (partial, full) if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=full)


def formats_in(directory: Path) -> list[str]:
    """Return the additional formats in which a directory has a report."""
    return [format_ for format_, (name, _) in FORMATS.items() if (directory / name).is_file()]


def keep(directory: Path) -> Mapping[str, bytes]:
    """Return the reports in a directory; ReadinessError if one cannot be read."""
    with _translated(directory):
        return {
            name: (directory / name).read_bytes()
            for name in (*NAMES, RESULTS_NAME, ATTESTATION_NAME)
            if (directory / name).is_file()
        }


def move(source: Path, target: Path, earlier: Mapping[str, bytes]) -> None:
    """Remove this run's reports from a directory, move its page to another, and restore ``earlier`` ones."""
    with _translated(target):
        target.mkdir(parents=True, exist_ok=True)
        if (source / RESULTS_NAME).is_file():
            (source / RESULTS_NAME).replace(target / RESULTS_NAME)
    put_back(source, earlier)


def put_back(directory: Path, earlier: Mapping[str, bytes]) -> None:
    """Replace this run's reports in a directory by ``earlier`` ones from :func:`keep`."""
    with _translated(directory):
        for name in (*NAMES, ATTESTATION_NAME):
            (directory / name).unlink(missing_ok=True)
        for name, content in earlier.items():
            _draft(directory / name).write_bytes(content)
            _draft(directory / name).replace(directory / name)


def discard(directory: Path, *pages: Path) -> None:
    """Remove an earlier run's page and signed verdict, and other pages; ReadinessError if that fails.

    Drafts that a killed run left behind go, too; a living run replaces its own within moments.
    """
    with _translated(directory):
        for page in (directory / RESULTS_NAME, directory / ATTESTATION_NAME, *pages):
            page.unlink(missing_ok=True)
        for draft in directory.glob(".readiness*.draft"):
            with contextlib.suppress(FileNotFoundError):  # another run may remove it, too
                if time.time() - draft.stat().st_mtime > _ABANDONED_S:
                    draft.unlink()


@contextlib.contextmanager
def _translated(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReadinessError(
            f"the reports cannot be written: {error.strerror or error}",
            where=str(error.filename or directory),
            action=f"{remedy(error)}, or name another directory: --readiness-dir "
            "(of the command report: --to)",
        ) from error


def replace_file(path: Path, content: str, redactor: LeakScanner | None = None) -> bool:
    """Write a file in one step; if it leaks a secret, return False and remove its predecessor instead."""
    data = _encoded(content)
    if redactor is not None and redactor.leaks(data):
        path.unlink(missing_ok=True)
        return False
    draft = _draft(path)
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return True


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.draft")


def _encoded(text: str) -> bytes:
    """Encode a report; a lone surrogate becomes an escape, which is readable, and exact in JSON."""
    return text.encode("utf-8", "backslashreplace")
