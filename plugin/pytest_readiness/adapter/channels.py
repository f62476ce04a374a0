"""Redacts everything that leaves a run except our own reports: output, logs, pytest's reports, item names.

Registered before the first conftest is imported, because even that may fail with a secret in its message.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import os
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO, cast

import pytest

from ..core.errors import ReadinessError
from ..core.formats import text_of
from ..core.plan import PLAN_NAME
from ..core.redaction import LineRedactor, Redactor, reading
from ..profile import Vault, load_profile, load_schema, read_plan

REDACTOR: pytest.StashKey[Redactor] = pytest.StashKey()
_CHANNELS: pytest.StashKey[Channels] = pytest.StashKey()
#: Suffixes of source files: words from these appear in reports.
_SOURCES = frozenset({".py", ".j2", ".jinja2", ".css", ".js"})
_PLAIN = (bool, int, float, type(None))
#: Fields of a report that hold pytest's or xdist's own words, or identify its item: the names of items are
#: cleaned when they are collected.
_LEFT = frozenset(
    {"_id", "nodeid", "location", "result", "outcome", "when"}
    | {"$report_type", "worker_id", "testrun_uid", "node"}
)


def guard(config: pytest.Config) -> Channels:
    """Return the object that redacts this process's output for this run, from the first call on."""
    if _CHANNELS not in config.stash:
        config.stash[_CHANNELS] = Channels(config)
    return config.stash[_CHANNELS]


def files(config: pytest.Config) -> list[Path]:
    """Return the other files that pytest itself wrote: its log, and all values in its cache."""
    log: logging.FileHandler | None = _log_file(config)
    written = [Path(log.baseFilename)] if log else []
    if hasattr(config, "cache"):  # -p no:cacheprovider also removes the setting
        named = os.path.expandvars(os.path.expanduser(str(config.getini("cache_dir"))))  # as pytest reads it
        values = config.rootpath / named / "v"
        written += sorted(path for path in values.rglob("*") if path.is_file())
    return written


@cache
def markup() -> str:
    """Return the reading of the code and templates that write reports: ours, pytest-html's, and JUnit's.

    Their words are in every report, whatever the secrets of a run are.
    """
    places = [Path(__file__).parents[1], Path(pytest.__file__).parents[1] / "_pytest" / "junitxml.py"]
    if (pages := find_spec("pytest_html")) and pages.origin:
        places.append(Path(pages.origin).parent)
    files = (path for place in places for path in (place.rglob("*.*") if place.is_dir() else [place]))
    return reading(b"\n".join(path.read_bytes() for path in files if path.suffix in _SOURCES))


class Channels:
    """Removes secrets from everything that pytest and its plugins show, store and write."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._redactor = config.stash[REDACTOR] = Redactor(ordinary=markup)
        self._knows_secrets = False
        self._names: set[str] = set()
        self._in_check = False
        self._streams = [RedactedStream(_beneath(stream), self._said) for stream in (sys.stdout, sys.stderr)]
        sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in self._streams)

    def close(self) -> None:
        """Stop redacting: this run has nothing to do with a launch plan.

        The streams stay in place because pytest's capture already uses them.
        """
        for stream in self._streams:
            stream.open()

    def text(self, text: str) -> str:
        """Return a text without secrets, even before the run has read its inputs."""
        if not self._knows_secrets:
            self._learn()
        return self._redactor.text(text)

    def shown(self, text: str) -> str:
        """Return a report's text without secrets and without terminal control characters."""
        if not self._knows_secrets:
            self._learn()
        return self._redactor.shown(text)

    def _said(self, text: str) -> str:
        """Return redacted output; a check's output loses its colours, which would look like pytest's."""
        return self.shown(text) if self._in_check else self.text(text)

    def _watched(self) -> Generator[None, object, object]:
        """Treat all output as a check's output, which is correct if nothing captures it."""
        self._switch(in_check=True)
        try:
            return (yield)
        finally:
            self._switch(in_check=False)

    def _switch(self, *, in_check: bool) -> None:
        for stream in self._streams:
            if stream.is_pending:
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        self._in_check = in_check

    def _learn(self) -> None:
        """Register the secrets on this machine, as far as plan and profile can be read.

        A run registers them again together with those that a hook adds; a run that only collects, or fails
        before that, has only these.
        """
        self._knows_secrets = True
        config = self._config
        asked = getattr(config.known_args_namespace, "readiness_env", None) or "local"
        with contextlib.suppress(ReadinessError, OSError):
            plan = read_plan(config.rootpath / PLAN_NAME)
            self._redactor.use_prefixes(plan.policy.secret_prefixes)
            schema = load_schema(config.rootpath)
            profile = load_profile(config.rootpath, config.invocation_params.dir, asked, schema)
            Vault(profile, self._redactor).resolve_all(local_only=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Cover the files that logging and ``--debug`` write."""
        handler = _log_file(self._config)
        if handler is not None:
            handler.setFormatter(_Formatter(handler.formatter or logging.Formatter(), self.text))
        if getattr(self._config.option, "debug", None):
            root = self._config.trace.root
            write: Any = root._writer  # there is no other access to what --debug writes
            root.setwriter(lambda text: write(self.text(text)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Remove secrets from a check's name, because reports, caches and files use it."""
        clean = self.text(item.nodeid)
        if clean != item.nodeid:
            number = 1
            while (unique := clean if number == 1 else f"{clean}-{number}") in self._names:
                number += 1
            self._names.add(unique)
            item.name = f"{self.text(item.name)}{unique[len(clean) :]}"
            _rename(item, unique)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Watch what fixtures print."""
        return (yield from self._watched())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Watch what the check prints."""
        return (yield from self._watched())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Watch what fixtures print in their teardown."""
        return (yield from self._watched())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Clean each report before any other plugin gets it."""
        self.clean(report)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> Generator[None, object, object]:
        """Clean the report about a module that cannot be imported."""
        self.clean(report)
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """Clean a warning: the terminal shows it at the end of the run."""
        said = text_of(warning_message.message)
        clean = self.shown(said)
        if clean != said:
            warning_message.message = UserWarning(clean)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_internalerror(self, excrepr: Any) -> Generator[None, object, object]:
        """Clean an error inside pytest, which the terminal and the JUnit report show."""
        clean = self.shown(str(excrepr))
        excrepr.toterminal = lambda tw: tw.line(clean)
        return (yield)

    def clean(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Remove secrets from every field of a report except its node id, which identifies the item."""
        for name, value in [*vars(report).items()]:
            if name == "longrepr":
                report.longrepr = self._longrepr(report)
            elif value and name not in _LEFT and not (isinstance(value, _PLAIN) or self._are_names(value)):
                setattr(report, name, self._value(value))

    def _are_names(self, value: object) -> bool:
        """Tell whether a value maps clean names to 1, as a report's keywords do."""
        if not self._knows_secrets:
            self._learn()
        return (
            isinstance(value, dict)
            and [*value.values()].count(1) == len(value)
            and self._redactor.are_clean(value.keys())
        )

    def _longrepr(self, report: pytest.TestReport | pytest.CollectReport) -> Any:
        """Return a traceback; one with a secret becomes plain text, as its lines could hide parts of it."""
        if report.longrepr is None:
            return None
        if isinstance(report.longrepr, tuple):
            path, line, reason = report.longrepr
            return path, line, self.shown(reason)
        text = report.longreprtext
        message = str(getattr(getattr(report.longrepr, "reprcrash", None), "message", ""))
        clean, clean_message = self.shown(text), self.shown(message)
        unchanged = clean == text and clean_message == message
        return report.longrepr if unchanged else clean or clean_message

    def _value(self, value: Any) -> Any:
        """Return a report's value without secrets; a value without any keeps its type."""
        if isinstance(value, str):
            return self.shown(value)
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, Mapping):
            return self._redactor.data(value)
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            ((name, member),) = self._redactor.data({value[0]: self._value(value[1])}).items()
            return name, member
        if isinstance(value, list | tuple):
            return type(value)([self._value(member) for member in value])
        if dataclasses.is_dataclass(value) and not isinstance(value, type):  # the context of a subtest
            value = copy.copy(value)
            for field in dataclasses.fields(value):
                object.__setattr__(value, field.name, self._value(getattr(value, field.name)))
            return value
        said = text_of(value)
        clean = self.shown(said)
        return value if clean == said else clean


class RedactedStream:
    """A text stream that shows no secrets. In all other respects it behaves like the stream that it wraps."""

    def __init__(self, stream: TextIO, redact: Callable[[str], str]) -> None:
        self.beneath = stream
        #: Whether something was written since the last flush.
        self.is_pending = False
        self._lines: LineRedactor | None = LineRedactor(redact)

    def open(self) -> None:
        """Stop redacting."""
        self.flush()
        self._lines = None

    def write(self, text: str) -> int:
        """Write the complete lines."""
        self.is_pending = True
        self._pass(self._lines.feed(text) if self._lines else text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write a list of lines."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Also write the incomplete line."""
        if self._lines:
            self._pass(self._lines.flush())
        try:
            self.beneath.flush()
        except OSError:
            self._leave()
        self.is_pending = False

    @property
    def buffer(self) -> _Bytes:
        """The same for bytes."""
        return _Bytes(self)

    def _pass(self, text: str) -> None:
        if not text:
            return
        try:
            self.beneath.write(text)
        except UnicodeEncodeError:  # too late for the caller to write the line differently
            encoding = self.beneath.encoding
            self.beneath.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError:
            self._leave()

    def _leave(self) -> None:
        """Continue without a reader, as with ``| head``, or without space for what is written.

        pytest would exit with 1, which means BROKEN. Its capture restores the stream each time it stops, and
        then this happens again.
        """
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.beneath.fileno())
        os.close(nowhere)
        self.beneath.flush()  # what could not be written is still in its buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)


class _Bytes:
    """The binary side of a redacted stream."""

    def __init__(self, stream: RedactedStream) -> None:
        self._stream = stream

    def write(self, content: bytes) -> int:
        """Write text that the caller has encoded."""
        self._stream.write(bytes(content).decode("utf-8", "backslashreplace"))
        return len(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Formatter(logging.Formatter):
    """Formats a record with another formatter and removes secrets from the result."""

    def __init__(self, formatter: logging.Formatter, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter = formatter
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without secrets."""
        return self._redact(self._formatter.format(record))


def _rename(item: Any, nodeid: str) -> None:
    """Change an item's node id; pytest has no API for that, and since 9.1 stores it in another form."""
    if hasattr(item, "_nodeid"):
        item._nodeid = nodeid
    else:
        item._id = type(item.id).parse(nodeid)


def _log_file(config: pytest.Config) -> logging.FileHandler | None:
    plugin = config.pluginmanager.getplugin("logging-plugin")
    handler: logging.FileHandler | None = getattr(plugin, "log_file_handler", None)
    return None if handler is None or handler.baseFilename == os.path.abspath(os.devnull) else handler


def _beneath(stream: TextIO) -> TextIO:
    return stream.beneath if isinstance(stream, RedactedStream) else stream
