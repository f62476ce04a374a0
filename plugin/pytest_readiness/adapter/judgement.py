"""Judges a run once, on the controller, when the result is first needed.

For a run in shards: what each shard leaves, and the one judgement of all shards together.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ..core.assess import UNFINISHED, assess, entry_of, is_broken_so_far
from ..core.errors import ReadinessError
from ..core.formats import clock_lead, counted, digest, format_moment, matching, parse_moment, utc_now
from ..core.goals import apply_exemptions
from ..core.history import vanished
from ..core.model import (
    IN_ALL_SHARDS,
    NONE_LEFT,
    SHARDS,
    RunFacts,
    RunRecord,
    Scope,
    Vanished,
    missing_shards,
    of_one_run,
    sealed_shard,
)
from ..core.verdict import is_broken
from ..profile import read_shards
from ..report import replace_file
from .checks import Checks, in_order, is_whole_suite_asked
from .collection import tests_named
from .context import RunContext, taken_out
from .outcomes import Tally
from .provenance import History, build_identity, checkout_of, digest_of, problems_of, runner
from .reports import REPLACED


class Judge:
    """Turns the collected reports into the model of the run. ``checks`` returns what was collected."""

    def __init__(
        self,
        config: pytest.Config,
        context: RunContext,
        tally: Tally,
        history: History,
        checks: Callable[[], Checks],
    ) -> None:
        self._config = config
        self._context = context
        self._tally = tally
        self.history = history
        self.checks = checks
        self._started_at, self._clock_lead = utc_now(), clock_lead()
        #: Digest of the suite's files before they are imported; later changes do not affect it.
        suite = (context.settings.root / context.plan.suite).resolve()
        self._suite_digest = digest_of(suite)
        self._sources = problems_of(suite, context.plan.suite, tests_named(config))
        self._build_start: Mapping[str, str] = {}
        self._record: RunRecord | None = None
        self._model: dict[str, Any] | None = None

    def begin(self) -> None:
        """Ask for the builds before the first check."""
        self._build_start = build_identity(self._config, self._context, "start")

    @property
    def record(self) -> RunRecord:
        """The finished run; the first access ends it."""
        if self._record is None:
            self._record = self._close(ended=True)
        return self._record

    def model(self) -> Mapping[str, Any]:
        """Return the assessed run without secrets; every caller gets the same model."""
        if self._model is None:
            if self.record.scope is Scope.FULL:
                self.history.refresh()
            self._model = self._assess(self.record)
        return self._model

    def entry_so_far(self, failed: str) -> Mapping[str, Any] | None:
        """Return the ledger entry if a full run that is already BROKEN were to end here; otherwise None.

        ``failed`` is the node id of the check that has just failed. A P1 or a covered check cannot break the
        run, so the whole run need not be judged again for each of many failures.
        """
        check = self.checks().selected.get(failed)
        if check is None or self.is_partial:
            return None
        alone, _ = apply_exemptions(
            [self._tally.result(check, failed)],
            self._context.plan,
            utc_now(),
            self._context.environment.profile.name if self._context.environment else "",
        )
        if not any(map(is_broken, alone)):
            return None
        record = self._close(ended=False)
        if not is_broken_so_far(record, self._context.plan, record.finished_at):
            return None
        return entry_of(self._assess(record))

    def again(self, **changed: Any) -> Mapping[str, Any]:
        """Judge again after facts have changed: a live secret was found, or a hook failed at the end."""
        self._record = dataclasses.replace(
            self.record, facts=dataclasses.replace(self.record.facts, **changed)
        )
        self._model = self._assess(self._record)
        return self._model

    @property
    def has_judged(self) -> bool:
        """Whether the verdict was already used, so that changed facts require a new one."""
        return self._model is not None

    @property
    def is_partial(self) -> bool:
        """Whether the run asked for less than the whole suite, or something was deselected."""
        return self._context.settings.shard is not None or not self.is_whole

    @property
    def is_whole(self) -> bool:
        """Whether the run, or all shards together, asked for the whole suite."""
        root = self._context.settings.root
        whole = is_whole_suite_asked(self._config, (root / self._context.plan.suite).resolve())
        lf = bool(self._config.getoption("lf", False))
        checks = self.checks()
        return whole and not lf and checks.deselected <= len(checks.elsewhere)

    def _unselected(self, checks: Checks) -> str:
        """Return what selected none of the checks that were collected; "" if some are selected."""
        if self._context.settings.shard or checks.selected or not checks.deselected:
            return ""
        options = (("-k", "keyword"), ("-m", "markexpr"))
        values = ((option, self._config.getoption(name, "")) for option, name in options)
        given = " and ".join(f"{option} {value!r}" for option, value in values if value)
        found = counted(checks.deselected, "check")
        return f"no check was selected: {given or 'the options'} matched none of {found}"

    def _assess(self, record: RunRecord) -> dict[str, Any]:
        found = assess(record, self._context.plan, self.history.entries, record.finished_at)
        redactor = self._context.redactor
        clean: dict[str, Any] = redactor.data(found)
        # a service called "token" also has a build, which the next run compares
        builds = {
            redactor.shown(name): redactor.shown(build) for name, build in record.build_identity.items()
        }
        addresses = {name: redactor.shown(url) for name, url in record.addresses.items()}
        return {**clean, "build_identity": builds, "addresses": addresses}

    def _close(self, *, ended: bool) -> RunRecord:
        """Record the run's current state; if it has not ``ended``, it counts as stopped here."""
        context, tally = self._context, self._tally
        if context.environment is None:
            raise RuntimeError("a run without an environment is not judged")
        profile = context.environment.profile
        build_end: Mapping[str, str] = {}
        if ended:  # pytest-html asks for the verdict before the gate does
            context.stray += taken_out(self._config)
        if ended and self._build_start and not tally.interrupted:
            build_end = build_identity(self._config, context, "end")
            context.notes.extend(
                f"build identity of {service} unknown at the end of the run: it was {build} at the start"
                for service, build in self._build_start.items()
                if build and build_end and not build_end.get(service)
            )
        checks = self.checks()
        scope = Scope.PARTIAL if self.is_partial else Scope.FULL
        gone: tuple[Vanished, ...] = ()
        if scope is Scope.FULL:
            known = [check.id for check in checks.collected]
            gone = self._vanished(known) if self._is_collected(checks) else ()
            context.notes.extend(str(check) for check in gone if not check.blocking)
            context.notes.extend(
                f"not_waivable {pattern!r} matches no check of the suite"
                for pattern in context.plan.not_waivable
                if not matching([pattern], known)
            )
        return RunRecord(
            run_id=context.run_id,
            environment=profile.name,
            live=profile.live,
            started_at=self._started_at,
            finished_at=utc_now(),
            results=tuple(tally.results(checks)),
            facts=RunFacts(
                scope=scope,
                gate=context.settings.gate,
                shard=context.settings.shard is not None,
                unselected=context.redactor.shown(self._unselected(checks)),
                interrupted=tally.interrupted
                or ("" if ended else UNFINISHED)
                or checks.problem.partition("\n")[0]
                or (tally.unreported(checks) if context.settings.is_distributed else ""),
                collection_errors=(
                    *(
                        f"{where}: {what}"
                        for where, what in (tally.collection_errors | checks.unread).items()
                    ),
                    *self._source_problems(checks),
                ),
                stray=tuple(dict.fromkeys(map(context.redactor.shown, context.stray))),
                vanished=gone,
                clock_jump_s=clock_lead() - self._clock_lead,
                build_start=self._build_start,
                build_end=build_end,
            ),
            addresses=profile.addresses,
            variables=context.variables(profile),
            suite_digest=self._suite_digest,
            degraded_exit_code=context.settings.degraded_exit_code,
            runner=runner(),
            checkout=self._real_checkout(checks),
            env_option=context.settings.environment,
            environments=self.history.environments,
            notes=tuple(dict.fromkeys(context.notes)),
            ledger={"url": self.history.url, "location": self.history.ledger.location},
            self_test=self.history.self_test(),
        )

    def _is_collected(self, checks: Checks) -> bool:
        """Tell whether the whole suite was collected: a check hidden by an error has not vanished."""
        return not (self._tally.collection_errors or checks.unread or checks.problem or not checks.collected)

    def _vanished(self, known: list[str]) -> tuple[Vanished, ...]:
        environment, plan = self._context.environment, self._context.plan
        name = environment.profile.name if environment else ""
        earlier = [
            entry for entry in self.history.entries.get(name, ()) if entry["run_id"] != self._context.run_id
        ]
        return vanished(earlier, known, plan)

    def _source_problems(self, checks: Checks) -> list[str]:
        """Return problems in the suite's source; in a partial run, only in the modules that it ran."""
        asked = {check.nodeid.partition("::")[0] for check in checks.collected}
        return [
            f"{path}: {problem}"
            for path, problems in self._sources.items()
            for problem in problems
            if path in asked or not self.is_partial
        ]

    def _real_checkout(self, checks: Checks) -> str:
        """Name the platform's own checkout if static checks saw it: a live profile or a variable names it.

        A checkout from a hook or from a profile that is not live may be a tree made for this run.
        """
        profile = self._context.environment.profile if self._context.environment else None
        names = {name for check in checks.collected if check.static for name in check.requires}
        rules = [self._context.schema.capabilities[name] for name in names & {*self._context.capabilities}]
        needs = [need for rule in rules for need in rule.needs]
        if profile is None or not needs or not all(profile.values[need] for need in needs):
            return ""
        named = all(profile.origins.get(need, "").startswith("environment variable") for need in needs)
        if not profile.live and not named:
            return ""
        return checkout_of([str(profile.values[need]) for need in needs])


def leave(context: RunContext, judge: Judge, tally: Tally, status: int) -> None:
    """Write a shard's results without secrets; ReadinessError if one is still in them.

    ``status`` is pytest's exit status.
    """
    shard, record, checks = context.settings.shard, judge.record, judge.checks()
    if shard is None:
        return
    # Names of tests and services do not make the values beside them secret, as with test_access_token.
    facts, shown, cleaned = record.facts, context.redactor.shown, context.redactor.data
    content = {
        "run": context.settings.shard_run,
        "index": shard.index,
        "of": shard.of,
        "environment": record.environment,
        # a platform that is not live differs on each machine
        "addresses": {name: shown(url) for name, url in record.addresses.items() if record.live},
        "suite_digest": record.suite_digest,
        "plan_digest": context.plan.digest,
        "drills": context.settings.drills,
        "whole": judge.is_whole,
        "known": digest([check.id for check in checks.collected]),
        "started_at": format_moment(record.started_at),
        "finished_at": format_moment(record.finished_at),
        "build_start": {name: shown(build) for name, build in facts.build_start.items()},
        "build_end": {name: shown(build) for name, build in facts.build_end.items()},
        "status": status,
        "clock_jump_s": facts.clock_jump_s,
        "interrupted": shown(facts.interrupted),
        "collection_errors": [*map(shown, facts.collection_errors)],
        "stray": [*map(shown, facts.stray)],
        "leaked": [*facts.leaked],
        "checkout": shown(record.checkout),
        "notes": [*map(shown, record.notes)],
        "checks": checks.as_data() | {"unread": {name: shown(why) for name, why in checks.unread.items()}},
        "attempts": {
            nodeid: cleaned(json.loads(json.dumps(attempts, default=str)))
            for nodeid, attempts in tally.as_data().items()
        },
    }
    path = context.settings.reports / SHARDS / shard.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not replace_file(path, sealed_shard(content), context.redactor):
        raise ReadinessError(
            "the shard's result contains a live secret: it is withheld",
            where=path.name,
            action="find out what wrote it there, and rotate the secret",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Shards:
    """The results of one run's shards, by index, and what is missing from them."""

    by_index: Mapping[int, Mapping[str, Any]]
    problem: str

    @classmethod
    def read(cls, paths: tuple[Path, ...]) -> Shards:
        """Read files, and the files in directories; ReadinessError if they do not belong to one run."""
        contents, unread = read_shards(paths)
        found = of_one_run(contents)
        if not found:
            raise ReadinessError("; ".join((NONE_LEFT, *unread)), where=", ".join(map(str, paths)))
        gone = missing_shards([*found], next(iter(found.values()))["of"])
        return cls(found, "; ".join(filter(None, (gone, *unread))))

    def checks(self, phases: Sequence[str]) -> Checks:
        """Return the checks of the run: all checks found, if the shards were to run the whole suite.

        They are in the order of a single run, because ``results`` relies on it for capabilities that are
        down.
        """
        parts = [Checks.from_data(shard["checks"]) for shard in self.by_index.values()]
        ran = {check.id: nodeid for part in parts for nodeid, check in part.selected.items()}
        whole = all(shard["whole"] for shard in self.by_index.values())
        collected = in_order(parts[0].collected, phases)
        return Checks(
            collected=collected,
            selected={
                ran.get(check.id, check.nodeid): check for check in collected if whole or check.id in ran
            },
            unread={where: why for part in parts for where, why in part.unread.items()},
        )


class MergedJudge(Judge):
    """Judges the results of a run's shards like those of a single run."""

    def __init__(
        self, config: pytest.Config, context: RunContext, tally: Tally, history: History, shards: Shards
    ) -> None:
        super().__init__(config, context, tally, history, lambda: found)
        self._shards = [*shards.by_index.values()]
        self._refuse_others(context)
        found = shards.checks(context.plan.phases)
        for index, shard in shards.by_index.items():
            tally.take(shard["attempts"])
            for problem in shard["collection_errors"]:
                where, _, what = problem.partition(": ")
                tally.collection_errors[where] = what
            ended = "" if shard["status"] in REPLACED else f"pytest exited {shard['status']}"
            if why := shard["interrupted"] or ended:
                tally.interrupted = tally.interrupted or f"shard {index}: {why}"
            context.stray.extend(shard["stray"])
            context.notes.extend(shard["notes"])
        tally.interrupted = shards.problem or tally.interrupted

    def begin(self) -> None:
        """Do nothing: the shards have recorded their builds."""

    def _close(self, *, ended: bool) -> RunRecord:
        record = super()._close(ended=ended)
        shards = self._shards
        start: dict[str, str] = {}
        for shard in shards:
            start |= {name: build for name, build in shard["build_start"].items() if not start.get(name)}
        end = dict(start)
        for shard in shards:  # a build that differs from the one at the start decides, whichever shard saw it
            seen = {name: build for name, build in shard["build_end"].items() if build}
            end |= {name: build for name, build in seen.items() if build != start.get(name)}
        facts = dataclasses.replace(
            record.facts,
            build_start=start,
            build_end=end,
            clock_jump_s=max((shard["clock_jump_s"] for shard in shards), key=abs),
            leaked=tuple(dict.fromkeys(name for shard in shards for name in shard["leaked"])),
        )
        return dataclasses.replace(
            record,
            run_id=shards[0]["run"],
            started_at=min(parse_moment(shard["started_at"]) for shard in shards),
            finished_at=max(parse_moment(shard["finished_at"]) for shard in shards),
            facts=facts,
            addresses=shards[0]["addresses"],
            checkout=next((shard["checkout"] for shard in shards if shard["checkout"]), ""),
        )

    @property
    def is_whole(self) -> bool:
        """Whether the shards asked for the whole suite."""
        return all(shard["whole"] for shard in self._shards)

    def _refuse_others(self, context: RunContext) -> None:
        """Raise ReadinessError if this checkout or environment is not the one that the shards used."""
        environment = context.environment.profile.name if context.environment else ""
        here = {
            "environment": environment,
            "suite_digest": self._suite_digest,
            "plan_digest": context.plan.digest,
        }
        for key, value in here.items():
            if self._shards[0][key] != value:
                raise ReadinessError(
                    f"{IN_ALL_SHARDS[key]} differs from that of the shards: "
                    f"{value}, not {self._shards[0][key]}",
                    where="readiness merge",
                    action="merge in the checkout and with the --env that the shards had",
                )


class NothingToRun:
    """Keeps a run that merges shards from collecting and running anything."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> bool:
        """Collect nothing: the shards have collected the checks."""
        return True
