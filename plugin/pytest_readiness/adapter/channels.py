"""Every way out of a run that is not a report of ours: output, logs, reports of pytest, names of items.

Registered before the first conftest is imported, as that may already fail with a secret in its message.
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
from pathlib import Path
from typing import Any, TextIO, cast

import pytest

from ..core.errors import ReadinessError
from ..core.formats import text_of
from ..core.plan import PLAN_NAME
from ..core.redaction import LineRedactor, Redactor
from ..profile import load_profile, load_schema, read_plan
from ..profile.environment import Vault

REDACTOR: pytest.StashKey[Redactor] = pytest.StashKey()
_CHANNELS: pytest.StashKey[Channels] = pytest.StashKey()
_PLAIN = (bool, int, float, type(None))
#: Fields of a report that hold a word of pytest's or of xdist's, or tell what it is about: the names of items
#: are cleaned when they are collected.
_LEFT = frozenset(
    {"_id", "nodeid", "location", "result", "outcome", "when"}
    | {"$report_type", "worker_id", "testrun_uid", "node"}
)


def guard(config: pytest.Config) -> Channels:
    """Return what guards the output of this process for this run, from the first call on."""
    if _CHANNELS not in config.stash:
        config.stash[_CHANNELS] = Channels(config)
    return config.stash[_CHANNELS]


def files(config: pytest.Config) -> list[Path]:
    """Return the files that pytest itself wrote beside reports: its log, and all values of its cache."""
    log: logging.FileHandler | None = _log_file(config)
    written = [Path(log.baseFilename)] if log else []
    if hasattr(config, "cache"):  # not with -p no:cacheprovider, which also takes its setting away
        named = os.path.expandvars(os.path.expanduser(str(config.getini("cache_dir"))))  # as pytest reads it
        values = config.rootpath / named / "v"
        written += sorted(path for path in values.rglob("*") if path.is_file())
    return written


class Channels:
    """Takes secrets out of what pytest and its plugins show, store and write."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._redactor = config.stash[REDACTOR] = Redactor()
        self._knows_secrets = False
        self._names: set[str] = set()
        self._in_check = False
        self._streams = [RedactedStream(_beneath(stream), self._said) for stream in (sys.stdout, sys.stderr)]
        sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in self._streams)

    def close(self) -> None:
        """Let everything pass: this run has nothing to do with a launch plan.

        The streams stay where they are, as pytest's capture has already taken hold of them.
        """
        for stream in self._streams:
            stream.open()

    def text(self, text: str) -> str:
        """Return a text without secrets, also before the run has read its inputs."""
        if not self._knows_secrets:
            self._learn()
        return self._redactor.text(text)

    def shown(self, text: str) -> str:
        """Return a text of a report without secrets, and without what a terminal obeys."""
        if not self._knows_secrets:
            self._learn()
        return self._redactor.shown(text)

    def _said(self, text: str) -> str:
        """Return output as it may pass: a check's keeps no colour, which would look like pytest's."""
        return self.shown(text) if self._in_check else self.text(text)

    def _watched(self) -> Generator[None, object, object]:
        """Treat all output as a check's output, which is right if nothing captures it."""
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
        """Register the secrets that this machine holds, as far as plan and profile can be read.

        A run does it again with what a hook adds; one that collects only, or fails before, has just this.
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
            write: Any = root._writer  # there is no other way to what --debug writes
            root.setwriter(lambda text: write(self.text(text)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Keep a secret out of the name of a check: reports, caches and files are named after it."""
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
        """Watch what fixtures print at their end."""
        return (yield from self._watched())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Clean each report before any other plugin gets it."""
        self.clean(report)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> Generator[None, object, object]:
        """Clean what is said of a module that cannot be imported."""
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
        """Clean what the terminal and the JUnit report show of an error inside pytest."""
        clean = self.shown(str(excrepr))
        excrepr.toterminal = lambda tw: tw.line(clean)
        return (yield)

    def clean(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Take secrets out of every field of a report but its node id, which tells what it is about."""
        for name, value in [*vars(report).items()]:
            if name == "longrepr":
                report.longrepr = self._longrepr(report)
            elif value and name not in _LEFT and not (isinstance(value, _PLAIN) or self._are_names(value)):
                setattr(report, name, self._value(value))

    def _are_names(self, value: object) -> bool:
        """Tell whether a value holds clean names with a 1 each, as the keywords of a report do."""
        if not self._knows_secrets:
            self._learn()
        return (
            isinstance(value, dict)
            and [*value.values()].count(1) == len(value)
            and self._redactor.are_clean(value.keys())
        )

    def _longrepr(self, report: pytest.TestReport | pytest.CollectReport) -> Any:
        """Return a traceback; one that held a secret becomes plain text, as its lines could hide parts."""
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
        """Return a value of a report without secrets, of the same kind where it has none."""
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
    """A stream of text that shows no secret. All else about it is that of the stream beneath."""

    def __init__(self, stream: TextIO, redact: Callable[[str], str]) -> None:
        self.beneath = stream
        #: Whether something was written since the last flush.
        self.is_pending = False
        self._lines: LineRedactor | None = LineRedactor(redact)

    def open(self) -> None:
        """Let everything pass from now on."""
        self.flush()
        self._lines = None

    def write(self, text: str) -> int:
        """Write the lines that are complete."""
        self.is_pending = True
        self._pass(self._lines.feed(text) if self._lines else text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write a list of lines."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Write also what has no end yet."""
        if self._lines:
            self._pass(self._lines.flush())
        try:
            self.beneath.flush()
        except BrokenPipeError:
            self._leave_pipe()
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
        except UnicodeEncodeError:  # comes too late for the caller to write the line otherwise
            encoding = self.beneath.encoding
            self.beneath.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            self._leave_pipe()

    def _leave_pipe(self) -> None:
        """Go on without a reader, as behind ``| head``: pytest would end with 1, which means BROKEN.

        pytest's capture puts the pipe back each time it stops, and then this happens again.
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
        """Write text that was encoded by the caller."""
        self._stream.write(bytes(content).decode("utf-8", "backslashreplace"))
        return len(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Formatter(logging.Formatter):
    """Formats a record as another formatter does, and takes secrets out of the result."""

    def __init__(self, formatter: logging.Formatter, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter = formatter
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without secrets."""
        return self._redact(self._formatter.format(record))


def _rename(item: Any, nodeid: str) -> None:
    """Give an item another node id; pytest offers no way to, and since 9.1 keeps it in another form."""
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
