"""Charts of a run as shapes, with a description and a table; a template draws them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.formats import counted, number, one_line
from .document import Cell, Table, moment, took

#: In a chart's own units; it scales with its column.
WIDTH, ROW, TOP, LABEL, VALUE = 400, 20, 4, 132, 62
#: Characters that fit before a bar, and on a separate line above it.
_BESIDE, _ABOVE = 21, 64
#: How many rows or points a chart shows (the last ones); the table has them all.
SHOWN = 40
_OUTCOME_TONES = {
    "passed": "good", "flaky": "careful", "failed": "bad", "not-run": "careful", "skipped": "quiet",
    "deferred": "quiet",
}  # fmt: skip
_VERDICT_TONES = {"READY": "good", "DEGRADED": "careful", "NO_VERDICT": "careful", "BROKEN": "bad"}


class Rect(NamedTuple):
    """A bar; ``tone`` is good, careful, bad, quiet or plain."""

    x: float
    y: float
    width: float
    height: float
    tone: str = "plain"


class Label(NamedTuple):
    """A text with its anchor (start, middle, end) at a point of its baseline."""

    x: float
    y: float
    text: str
    anchor: str = "start"


class Picture(NamedTuple):
    """A chart for a template: shapes, ``marks`` (lines of a limit: x1, y1, x2, y2), a line through points."""

    title: str
    alt: str
    height: float
    table: Table
    rects: tuple[Rect, ...] = ()
    labels: tuple[Label, ...] = ()
    marks: tuple[tuple[float, float, float, float], ...] = ()
    line: str = ""


class _Row(NamedTuple):
    label: str
    value: str
    parts: tuple[tuple[float, float, str], ...]
    limit: float | None = None


def pictures(model: Mapping[str, Any]) -> tuple[Picture, ...]:
    """Return the charts of a model, without those that have no data."""
    found = [
        _runs(_rows(model, "runs")),
        *(
            _line(chart) if chart.get("kind") in ("curve", "total") else _bars(chart)
            for chart in _rows(model, "charts")
        ),
        _goals(_rows(model, "goals")),
        _phases(_rows(model, "phases")),
    ]
    return tuple(picture for picture in found if picture is not None)


def _rows(model: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return [row for row in model.get(key) or () if isinstance(row, Mapping)]


def _runs(runs: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Draw the last runs as columns: their height is the duration, their colour the verdict."""
    if not runs:
        return None
    longest = max((run.get("seconds") or 0 for run in runs), default=0) or 1
    step = min(WIDTH / len(runs), 40)
    high, several = 90, len(runs) > 1
    rects = []
    for place, run in enumerate(runs):
        height = max(3, high * (run.get("seconds") or 0) / longest)
        tone = _VERDICT_TONES.get(str(run.get("verdict")), "plain")
        rects.append(
            Rect(_round(place * step), _round(18 + high - height), _round(step - 2), _round(height), tone)
        )
    days = [moment(run.get("finished_at"))[:10] for run in (runs[0], runs[-1])]
    ends = (Label(0, 18 + high + 14, f"oldest first, {' to '.join(dict.fromkeys(days))}"),)
    verdicts = [str(run.get("verdict")) for run in runs]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts))
    table = Table(
        ("Run", "Finished", "Verdict", "Seconds"),
        tuple(
            (
                Cell(one_line(run.get("run_id"), 60), "code", nowrap=True),
                Cell(moment(run.get("finished_at")), nowrap=True),
                Cell(one_line(run.get("verdict"), 40), "status"),
                Cell(number(run.get("seconds"))),
            )
            for run in reversed(runs)
        ),
    )
    return Picture(
        title=f"Verdict and duration of the last {counted(len(runs), 'run') if several else 'run'}",
        alt=f"{counts}; the longest took {number(longest)} s, the last {number(runs[-1].get('seconds'))} s",
        height=18 + high + 18,
        table=table,
        rects=tuple(rects),
        labels=(
            Label(0, 12, f"{'highest bar: ' if several else ''}{number(longest)} s"),
            *(ends if several else ()),
        ),
    )


def _bars(chart: Mapping[str, Any]) -> Picture | None:
    """Draw each figure of a chart as a bar, with a mark at its limit; beyond the limit it is bad."""
    points, unit = _rows(chart, "points"), one_line(chart.get("unit"), 12)
    rows = [
        _Row(
            one_line(point.get("label"), 120),
            f"{_short(point['value'])} {unit}".strip(),
            ((0, point["value"], _against(point)),),
            point.get("limit"),
        )
        for point in points
    ]
    limits = sorted({point["limit"] for point in points if point.get("limit") is not None})
    bound = (
        f"; limit {' to '.join(_short(limit) for limit in (limits[0], limits[-1])[: len(limits)])} {unit}"
        if limits
        else ""
    )
    values = [point["value"] for point in points]
    alt = f"{counted(len(points), 'figure')}, {_short(min(values))} to {_short(max(values))} {unit}{bound}"
    return _horizontal(one_line(chart.get("title"), 80), alt, rows, _points_table(points, unit))


def _against(point: Mapping[str, Any]) -> str:
    limit = point.get("limit")
    return "plain" if limit is None else "good" if point["value"] <= limit else "bad"


def _line(chart: Mapping[str, Any]) -> Picture | None:
    """Draw a running total or a curve as a line, with a mark at its limit."""
    points, unit = _rows(chart, "points"), one_line(chart.get("unit"), 12)
    last, limit = points[-1]["value"], points[-1].get("limit")
    top = max(*(abs(point["value"]) for point in points), limit or 0, 1e-9)
    high, left = 100, 4
    step = (WIDTH - 2 * left) / max(1, len(points) - 1)
    path = " ".join(
        f"{_round(left + place * step)},{_round(18 + high - high * max(0.0, point['value']) / top)}"
        for place, point in enumerate(points)
    )
    level = _round(18 + high - high * (limit or 0) / top)
    end = f"; limit {_short(limit)} {unit}" if limit else ""
    return Picture(
        title=one_line(chart.get("title"), 80),
        alt=f"{counted(len(points), 'step')} up to {_short(last)} {unit}{end}",
        height=18 + high + 18,
        table=_points_table(points, unit),
        line=path,
        marks=((0, level, WIDTH, level),) if limit else (),
        labels=(
            Label(left, 12, f"{_short(top)} {unit}"),
            Label(WIDTH - left, 18 + high + 14, f"{_short(last)} {unit} at the end", "end"),
        ),
    )  # fmt: skip


def _points_table(points: Sequence[Mapping[str, Any]], unit: str) -> Table:
    rows = (
        (Cell(one_line(point.get("label"), 200)), *(Cell(f"{number(point.get(key))} {unit}".strip())
         if point.get(key) is not None else Cell("") for key in ("value", "limit")))
        for point in points
    )  # fmt: skip
    return Table(("Figure", "Value", "Limit"), tuple(rows))


def _goals(goals: Sequence[Mapping[str, Any]]) -> Picture | None:
    counts = {one_line(goal.get("id"), 40): goal["outcomes"] for goal in goals if goal.get("outcomes")}
    if not counts:
        return None
    rows = [_Row(name, number(sum(found.values())), tuple(_stacked(found))) for name, found in counts.items()]
    alt = "; ".join(f"{name}: {spelled(found)}" for name, found in counts.items())
    return _horizontal("Checks of each goal by outcome", alt, rows, _outcome_table("Goal", counts))


def _phases(phases: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Draw the phases one after another, each as long as its checks took."""
    if not phases:
        return None
    rows, start = [], 0.0
    for phase in phases:
        seconds = float(phase.get("seconds") or 0)
        rows.append(_Row(one_line(phase.get("name"), 60), took(seconds), ((start, seconds, "plain"),)))
        start += seconds
    longest = max(phases, key=lambda phase: phase.get("seconds") or 0)
    most = f"{one_line(longest.get('name'), 60)} ({took(longest.get('seconds'))})"
    alt = f"{took(start)} of checks, most in {most}"
    table = Table(
        ("Phase", "Time", "Checks"),
        tuple(
            (
                Cell(one_line(phase.get("name"), 60)),
                Cell(took(phase.get("seconds"))),
                Cell(spelled(phase.get("outcomes") or {})),
            )
            for phase in phases
        ),
    )
    return _horizontal("Where the checks' time went, by phase", alt, rows, table)


def _stacked(found: Mapping[str, int]) -> Iterator[tuple[float, float, str]]:
    start = 0
    for outcome, count in found.items():
        yield start, count, _OUTCOME_TONES.get(outcome, "plain")
        start += count


def spelled(found: Mapping[str, Any]) -> str:
    """Return counts by outcome, as "26 passed, 1 skipped"."""
    return ", ".join(f"{count} {one_line(outcome, 40)}" for outcome, count in found.items())


def _outcome_table(name: str, counts: Mapping[str, Mapping[str, int]]) -> Table:
    rows = tuple((Cell(key), Cell(spelled(found))) for key, found in counts.items())
    return Table((name, "Checks"), rows)


def _horizontal(title: str, alt: str, rows: Sequence[_Row], table: Table) -> Picture | None:
    """Draw rows of bars on one scale: label, bar, value; long labels stand above their bars."""
    shown = rows[-SHOWN:]
    above = any(len(row.label) > _BESIDE for row in shown)
    left, down = (0, ROW - 4) if above else (LABEL, 0)
    ends = [*(start + length for row in shown for start, length, _ in row.parts), *_limits(shown)]
    scale = (WIDTH - VALUE - left) / (max(ends, default=0) or 1)
    rects, labels, marks = [], [], []
    for place, row in enumerate(shown):
        top = TOP + place * (ROW + down)
        y = top + down
        labels += [Label(0, top + 12, _ending(row.label)), Label(WIDTH, y + 12, row.value, "end")]
        for start, length, tone in row.parts:
            x, wide = left + max(0, start) * scale, max(1.5, length * scale)
            rects.append(Rect(_round(x), y + 2, _round(wide), ROW - 6, tone))
        if row.limit is not None:
            x = _round(left + row.limit * scale)
            marks.append((x, y, x, y + ROW - 2))
    height = TOP * 2 + (ROW + down) * len(shown)
    return Picture(title, alt, height, table, tuple(rects), tuple(labels), tuple(marks))


def _limits(rows: Iterable[_Row]) -> Iterator[float]:
    return (row.limit for row in rows if row.limit is not None)


def _ending(label: str) -> str:
    """Cut a label at its front: ids differ at their end."""
    return label if len(label) <= _ABOVE else f"…{label[1 - _ABOVE :]}"


def _short(value: float) -> str:
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1e4 else f"{value:,.0f}"


def _round(value: float) -> float:
    return round(value, 1)
