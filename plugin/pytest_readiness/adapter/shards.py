"""A run in shards: what each leaves for the others, and the one judgement of what all of them left."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ..core.errors import ReadinessError
from ..core.formats import digest, format_moment, parse_moment
from ..core.model import RunRecord
from ..core.shards import COMMON, DIRECTORY, NONE_LEFT, missing, of_one_run, written
from ..profile.project import read_shards
from ..report import replace_file
from .checks import Checks, in_order
from .context import RunContext
from .judgement import Judge
from .outcomes import Tally
from .provenance import History
from .reports import REPLACED


def leave(context: RunContext, judge: Judge, tally: Tally, status: int) -> None:
    """Write what a shard leaves, free of secrets; ReadinessError when one is still in it.

    ``status`` is pytest's exit status.
    """
    shard, record, checks = context.settings.shard, judge.record, judge.checks()
    if shard is None:
        return
    # What tests and services are called says nothing of what stands beside it: a failed test_access_token.
    facts, shown, cleaned = record.facts, context.redactor.shown, context.redactor.data
    content = {
        "run": context.settings.shard_run,
        "index": shard.index,
        "of": shard.of,
        "environment": record.environment,
        # an embedded platform is another one on each machine
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
    path = context.settings.reports / DIRECTORY / shard.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not replace_file(path, written(content), context.redactor):
        raise ReadinessError(
            "a live secret is in what the shard leaves: it is withheld",
            where=path.name,
            action="find out what wrote it there, and replace the secret",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Shards:
    """What the shards of one run left, by their index, and what keeps it from being all."""

    by_index: Mapping[int, Mapping[str, Any]]
    problem: str

    @classmethod
    def read(cls, paths: tuple[Path, ...]) -> Shards:
        """Read files and what lies in directories; ReadinessError for what is not of one run."""
        contents, unread = read_shards(paths)
        found = of_one_run(contents)
        if not found:
            raise ReadinessError("; ".join((NONE_LEFT, *unread)), where=", ".join(map(str, paths)))
        gone = missing([*found], next(iter(found.values()))["of"])
        return cls(found, "; ".join(filter(None, (gone, *unread))))

    def checks(self, phases: Sequence[str]) -> Checks:
        """Return the checks of the run: all that were found, where the shards were to run all of them.

        They come in the order of one run, in which ``results`` passes on what is down.
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
    """Judges what the shards of a run left, as one run would be judged."""

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
        """Ask for nothing: the shards knew their builds."""

    def _close(self, *, ended: bool) -> RunRecord:
        record = super()._close(ended=ended)
        shards = self._shards
        start: dict[str, str] = {}
        for shard in shards:
            start |= {name: build for name, build in shard["build_start"].items() if not start.get(name)}
        end = dict(start)
        for shard in shards:  # another build than that at the start, whichever shard saw it, decides
            seen = {name: build for name, build in shard["build_end"].items() if build}
            end |= {name: build for name, build in seen.items() if build != start.get(name)}
        facts = dataclasses.replace(
            record.facts,
            build_start=start,
            build_end=end,
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
        """Raise ReadinessError when this checkout or environment is not the one that the shards ran with."""
        environment = context.environment.profile.name if context.environment else ""
        here = {
            "environment": environment,
            "suite_digest": self._suite_digest,
            "plan_digest": context.plan.digest,
        }
        for key, value in here.items():
            if self._shards[0][key] != value:
                raise ReadinessError(
                    f"{COMMON[key]} differs from that of the shards: {value}, not {self._shards[0][key]}",
                    where="readiness merge",
                    action="merge in the checkout and with the --env that the shards had",
                )


class NothingToRun:
    """Keeps a run that judges what shards left from collecting and running anything."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> bool:
        """Collect nothing: what there is to run, the shards have found."""
        return True
