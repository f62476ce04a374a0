"""The command line: options, and whether the run concerns a launch plan."""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ..core.errors import three_lines
from ..core.formats import HANDOVER, filled
from ..core.model import Shard
from ..core.plan import MAX_LIMIT_S, PLAN_NAME, is_directory_name
from ..core.toml import parse_toml
from ..profile import DEFAULT_ENVIRONMENT, find_plan
from ..profile.schema import DIRECTORY

DEFAULT_SUITE = "smoke"
#: Tells an xdist worker that the run leaves out the suite.
LEFT_OUT = "readiness_left_out"
#: A CI's variables for the run that its jobs share; on GitHub, rerun jobs have another attempt number.
_RUNS_OF_CI, _ATTEMPT = ("GITHUB_RUN_ID", "CI_PIPELINE_ID"), "GITHUB_RUN_ATTEMPT"
#: 3 and 4 are pytest's own, 6 is NO_VERDICT, 5 and 7 would look like pytest's and pytest-rerunfailures'.
DEGRADED_CODES = (0, 1, 2)
#: Our options that need a run of the suite.
_ASKING = ("env", "gate", "drills", "attest", "shard", "merge")
#: pytest's options that run no check, so there is nothing to judge.
_INERT_OPTIONS = ("collectonly", "showfixtures", "show_fixtures_per_test", "setupplan", "cacheshow")


def add(parser: pytest.Parser) -> None:
    """Add the option group "readiness"."""
    group = parser.getgroup("readiness", "launch readiness")
    if HANDOVER in os.environ:  # pytest shows these with its errors
        parser.extra_info["next"] = "readiness run --help, and pytest --help for all options"
    if any(word.startswith(("-n", "--numprocesses")) for word in sys.argv) and find_spec("xdist") is None:
        parser.extra_info["-n"] = "needs pytest-xdist: pip install 'pytest-readiness[xdist]'"
    group.addoption(
        "--env",
        dest="readiness_env",
        metavar="NAME|PATH.toml",
        type=filled,
        help="Environment profile: a name under environments/ or a file (default: local)",
    )
    group.addoption(
        "--gate", dest="readiness_gate", action="store_true", help="Refuse a partial run; use this in CI"
    )
    group.addoption(
        "--drills",
        dest="readiness_drills",
        action="store_true",
        help="Also run checks that change the platform's state",
    )
    group.addoption(
        "--degraded-exit-code",
        dest="readiness_degraded_exit_code",
        metavar="N",
        type=_degraded_exit_code,
        default=2,
        help="Exit code of a DEGRADED run, for gates that know only zero and nonzero: 0, 1, 2 (default: 2)",
    )
    group.addoption(
        "--readiness-dir",
        metavar="DIR",
        type=filled,
        help="Directory of the reports (default: reports under the rootdir)",
    )
    group.addoption(
        "--readiness-ledger",
        metavar="URL",
        type=filled,
        help="Ledger of past runs: file:PATH or s3://BUCKET/PREFIX, with {env} (default: the plan's)",
    )
    group.addoption(
        "--readiness-wait",
        metavar="SECONDS",
        type=_seconds,
        help="How long to wait for another run on the same platform to end (default: the plan's)",
    )
    group.addoption(
        "--readiness-format",
        metavar="NAME[,NAME]",
        type=_formats,
        help="More formats of the report: csv, ctrf, prometheus, text (default: the ini readiness_format)",
    )
    group.addoption(
        "--readiness-progress",
        choices=("auto", "yes", "no"),
        default="auto",
        help="Show phase, checks done and time left during the run; auto: on a terminal (default: auto)",
    )
    group.addoption(
        "--attest",
        dest="readiness_attest",
        metavar="KEY",
        type=_key,
        help="Sign the verdict with this key: the path of a PEM, or env:NAME, file:PATH, secretsmanager:ID",
    )
    group.addoption(
        "--readiness-shard",
        metavar="I/N",
        type=_shard,
        help="Run the I-th of N parts of the suite, for readiness merge to join",
    )
    group.addoption(
        "--readiness-shard-run",
        metavar="ID",
        type=_shard_run,
        help="Id that all shards of one run share (default: run and attempt of GitHub, pipeline of GitLab)",
    )
    group.addoption(
        "--readiness-merge",
        metavar="PATH",
        action="append",
        type=filled,
        help="Run nothing, judge the results of shards; set by readiness merge",
    )
    parser.addini("readiness_format", "Default of --readiness-format", default="")


def _refused(what: str, **more: str) -> pytest.UsageError:
    return pytest.UsageError(three_lines(what, **more))


def is_inert(config: pytest.Config) -> bool:
    """Tell whether pytest was asked for something other than running checks."""
    return any(config.getoption(name, False) for name in _INERT_OPTIONS)


def is_active(config: pytest.Config) -> bool:
    """Tell whether the rootdir has a plan and this run asks for its suite or names an environment.

    A run that leaves out the suite (:func:`leaves_out_suite`) is not active. UsageError for an environment or
    a gate without a plan: a missing gate must not count as passed.
    """
    plan = config.rootpath / PLAN_NAME
    if os.path.lexists(plan) and not plan.is_file():
        raise _refused(
            "not a regular file", where=str(plan), allowed="a plan in TOML", action="correct or remove it"
        )
    asked = any(config.getoption(f"readiness_{name}") for name in _ASKING)
    if asked and not plan.is_file():
        above = find_plan(config.rootpath)
        raise _refused(
            "no launch plan, which --env, --gate, --drills and --attest need",
            where=str(plan),
            action=f"run it in {above.parent}, where the plan is"
            if above
            else "run it where the plan is, name that with --rootdir, or create one: readiness init",
        )
    if config.getoption("readiness_gate") and is_inert(config):
        raise _refused(
            "--gate needs a run, and these options run no check",
            where=" ".join(map(str, config.invocation_params.args)),
            action="leave out --collect-only, --setup-plan, --fixtures and the like, or --gate",
        )
    if not plan.is_file():
        _refuse_suite_of_another_root(config)
        return False
    suite = (config.rootpath / suite_name(plan)).resolve()
    if not suite.is_dir():
        return True  # the plan is refused for it, independently of the options
    paths = asked_paths(config)
    touches_suite = any(path.is_relative_to(suite) or suite.is_relative_to(path) for path in paths)
    if asked and not touches_suite and paths:
        other = "--env, --gate, --drills and --attest are for the suite, and this run asks for other tests"
        name = os.path.relpath(suite, config.invocation_params.dir)
        raise _refused(
            other if any(path.exists() for path in paths) else "no such file or directory",
            where=", ".join(config.args),
            allowed=f"paths in {name}/",
            action=f"pytest {name} and the same options",
        )
    return touches_suite and not leaves_out_suite(config)


def leaves_out_suite(config: pytest.Config) -> bool:
    """Tell whether this run is for other tests, which the suite in the same project must not stop.

    Such a run names neither the suite nor an environment, like a bare ``pytest`` in the rootdir, and there is
    no ``local`` environment for the suite's checks.
    """
    if given := getattr(config, "workerinput", None):
        return LEFT_OUT in given
    if any(config.getoption(f"readiness_{name}") for name in _ASKING):
        return False
    try:
        if (config.rootpath / DIRECTORY / f"{DEFAULT_ENVIRONMENT}.toml").exists():
            return False
    except PermissionError:  # the schema, which is read first, is refused for it
        return False
    plan = config.rootpath / PLAN_NAME
    suite = (config.rootpath / suite_name(plan)).resolve()
    if not (plan.is_file() and suite.is_dir()):
        return False
    base = config.invocation_params.dir
    named = [(base / path.split("::")[0]).resolve() for path in config.option.file_or_dir] or [base]
    asked = asked_paths(config)  # with the testpaths of a bare `pytest`
    return (
        any(suite.is_relative_to(path) or path.is_relative_to(suite) for path in asked)
        and not all(path.is_relative_to(suite) for path in asked)
        and not any(path.is_relative_to(suite) for path in named)
    )


def _refuse_suite_of_another_root(config: pytest.Config) -> None:
    """Raise UsageError if the run asks for a suite with a plan outside the rootdir."""
    for path in asked_paths(config):
        for root in (path, *path.parents):
            plan = root / PLAN_NAME
            if plan.is_file() and path.is_relative_to((root / suite_name(plan)).resolve()):
                raise _refused(
                    f"its launch plan does not apply to this run: the rootdir is {config.rootpath}",
                    where=str(path),
                    action=f"pytest --rootdir {root} {path}",
                )


def suite_name(plan: Path) -> str:
    """Read the suite's directory from a plan that may be malformed; the plan is validated later."""
    from ..profile import read_file  # imports that runs without a plan do not need

    try:
        name = parse_toml(read_file(plan)).get("suite")
    except (OSError, ValueError, RecursionError):
        name = None
    return name if isinstance(name, str) and is_directory_name(name) else DEFAULT_SUITE


def asked_paths(config: pytest.Config) -> list[Path]:
    """Return the files and directories that the command line names, without node ids inside files."""
    base = config.invocation_params.dir
    return [(base / argument.split("::")[0].split("[")[0]).resolve() for argument in config.args]


def _key(text: str) -> str:
    """Refuse a literal key without quoting it: every user of the machine can read command lines."""
    if "PRIVATE KEY" in text:
        raise argparse.ArgumentTypeError("a key must not be on a command line (next: name its file)")
    return filled(text)


def _degraded_exit_code(text: str) -> int:
    allowed = ", ".join(map(str, DEGRADED_CODES))
    if not text.isdecimal() or int(text) not in DEGRADED_CODES:
        raise argparse.ArgumentTypeError(f"{text!r} is not an exit code for DEGRADED (allowed: {allowed})")
    return int(text)


def _seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > MAX_LIMIT_S:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds (allowed: 0 to {MAX_LIMIT_S}; 0 does not wait)"
        )
    return int(text)


def _shard(text: str) -> str:
    try:
        return str(Shard.parse(text))  # plain text, because xdist cannot send an object to its workers
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _shard_run(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an id (allowed: letters, digits, . _ -, up to 64)")
    return text


def _shard_run_of(config: pytest.Config) -> str:
    """Return the id that the shards of this run share; UsageError for a shard without one."""
    named = str(config.getoption("readiness_shard_run") or "")
    shard = config.getoption("readiness_shard")
    if shard is None or named:
        return named
    given = next(filter(os.environ.get, _RUNS_OF_CI), "")
    if not given:
        raise _refused(
            "this shard does not know the id of its run",
            where=f"--readiness-shard {shard}",
            action="add --readiness-shard-run ID, the same for all shards",
        )
    attempt = os.environ.get(_ATTEMPT, "") if given == _RUNS_OF_CI[0] else ""
    try:
        return _shard_run("-".join(filter(None, (os.environ[given], attempt))))
    except argparse.ArgumentTypeError as problem:
        raise _refused(
            str(problem),
            where=f"{given} of the environment" + (f", with {_ATTEMPT}" if attempt else ""),
            action="add --readiness-shard-run ID, the same for all shards",
        ) from None


def _formats(text: str) -> tuple[str, ...]:
    from ..report import FORMATS  # imports templates, which a run without reports does not need

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{', '.join(map(repr, unknown))}: not a report format (allowed: {', '.join(FORMATS)})"
        )
    return names


def _formats_of(config: pytest.Config) -> tuple[str, ...]:
    """Return the formats in the option, or else in the setting; UsageError for an unknown one."""
    asked: tuple[str, ...] | None = config.getoption("readiness_format")
    setting = str(config.getini("readiness_format")).strip()
    if asked is not None or not setting:
        return asked or ()
    try:
        return _formats(setting)
    except argparse.ArgumentTypeError as problem:
        raise pytest.UsageError(f"readiness_format: {problem}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options, as the adapter needs them. ``worker`` is the id of an xdist worker, "" elsewhere."""

    root: Path
    environment: str
    gate: bool
    drills: bool
    degraded_exit_code: int
    reports: Path
    ledger_url: str
    #: Seconds to wait for a lease; None: the plan's.
    wait_s: int | None
    formats: tuple[str, ...]
    #: Reference to the key that signs the verdict, "" for none.
    attest: str
    #: Which part of the suite this run is (None: all of it), and the id that the run's shards share.
    shard: Shard | None
    shard_run: str
    #: Results of shards, which this run judges instead of running checks.
    merge: tuple[Path, ...]
    inert: bool
    worker: str
    distribution: str

    @classmethod
    def from_config(cls, config: pytest.Config) -> Settings:
        """Read the options of a configured run."""
        directory = config.getoption("readiness_dir")
        workerinput: dict[str, Any] = getattr(config, "workerinput", {})
        shard = config.getoption("readiness_shard")
        return cls(
            root=config.rootpath,
            environment=config.getoption("readiness_env") or DEFAULT_ENVIRONMENT,
            gate=config.getoption("readiness_gate"),
            drills=config.getoption("readiness_drills"),
            degraded_exit_code=config.getoption("readiness_degraded_exit_code"),
            reports=(config.invocation_params.dir / directory)
            if directory
            else (config.rootpath / "reports"),
            ledger_url=config.getoption("readiness_ledger") or "",
            wait_s=config.getoption("readiness_wait"),
            formats=_formats_of(config),
            attest=config.getoption("readiness_attest") or "",
            shard=Shard.parse(shard) if shard else None,
            shard_run=_shard_run_of(config),
            merge=tuple(
                config.invocation_params.dir / path for path in config.getoption("readiness_merge") or ()
            ),
            inert=is_inert(config),
            worker=str(workerinput.get("workerid", "")),
            distribution=_distribution(config),
        )

    @property
    def plan_path(self) -> Path:
        """The plan's file."""
        return self.root / PLAN_NAME

    @property
    def is_controller(self) -> bool:
        """True in the process that judges: the only process, or xdist's controller."""
        return not self.worker

    @property
    def is_distributed(self) -> bool:
        """True on the controller of a run that xdist distributes."""
        return self.is_controller and self.distribution != "no"


def _distribution(config: pytest.Config) -> str:
    return str(config.getoption("dist", "no")) if config.getoption("tx", []) else "no"
