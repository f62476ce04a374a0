"""Mutants of what AWS was seeded with: a record or an item dropped, a value emptied or changed.

Each is a state that AWS could have: of a value that it takes from a fixed list, another of that list.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

from stack.aws.internals import stores

#: The records that say what was asked for; the rest of the emulator's state follows from them.
SEEN = (
    *("acm._certificates", "alb._lbs", "alb._listeners", "alb._rules", "alb._tgs", "cloudwatch._alarms"),
    *("cloudwatch._dashboards", "cloudwatch_logs._log_groups", "ec2._security_groups", "ecr._images"),
    *("ecr._repositories", "ecs._clusters", "ecs._services", "ecs._task_defs", "iam._roles"),
    *("rds._instances", "secretsmanager._secrets", "servicediscovery._instances"),
    *("servicediscovery._services", "sns._topics"),
)
#: What AWS decides by itself: times, ids and links that it makes up, who did it, what it counts and digests.
_OWN = re.compile(
    r"(?i)^_|(?:date|time|timestamp|created|modified|updated|at|id|arn|arns|uri|url|reason|history|versions"
    r"|DashboardBody|by|owner|size|digest|imageManifest|MediaType|revision|compatibilities|DNSName"
    r"|(?:Services|Tasks|Instances|pending)Count|Subscriptions(?:Confirmed|Deleted|Pending))$"
)
#: `a>b`: a value from one of AWS's fixed lists, and another from that list.
_OTHERS = dict(
    re.findall(
        r"(\S+)>(\S+)",
        "ACTIVE>INACTIVE active>failed available>stopped enabled>disabled ISSUED>EXPIRED "
        "AMAZON_ISSUED>IMPORTED COMPLETED>FAILED PRIMARY>ACTIVE REPLICA>DAEMON ECS>EXTERNAL "
        "NONE>SERVICE FARGATE>EC2 awsvpc>bridge awslogs>splunk tcp>udp IMMUTABLE>MUTABLE "
        "STANDARD>INFREQUENT_ACCESS internet-facing>internal application>network ip>instance "
        "HTTP>HTTPS HTTPS>HTTP forward>fixed-response redirect>fixed-response traffic-port>1 "
        "host-header>path-pattern A>SRV MULTIVALUE>WEIGHTED 0.0.0.0/0>10.0.0.0/8 sqs>lambda "
        "Allow>Deny ecs-tasks.amazonaws.com>ec2.amazonaws.com true>false false>true "
        "LessThanThreshold>GreaterThanThreshold GreaterThanThreshold>LessThanThreshold "
        "Minimum>Maximum Maximum>Minimum Average>Minimum Sum>Minimum p99>p50 OK>ALARM "
        "breaching>notBreaching notBreaching>breaching missing>ignore 256>512 512>256 1024>2048",
    )
)
#: What AWS takes under a key in whole numbers: the smallest, and the step to the next.
_NUMBERS = {"EvaluationPeriods": (1, 1), "Period": (60, 60)}
_RANDOM = re.compile(r"[0-9a-f]{8}|[0-9a-z]{16}")
#: Followed by an x where it is at the end of a value that is changed.
_MADE_UP = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,}|[0-9]{4}-[0-9-]{5}T[0-9:.]+Z?|\b[0-9a-z]{16}x?\b|\b\d{5,}x?\b"
    r"|-[0-9a-f]{6,}x?\b|-[0-9a-z]{8}(?=\.)"
)
_NAMES = ("Name", "GroupName", "LoadBalancerName", "TargetGroupName", "DomainName", "name")


@dataclass(frozen=True, slots=True)
class RecordMutant:
    """One change of one record; `path` leads to the value, None drops the record."""

    id: str
    operator: str
    store: str
    key: Any
    path: tuple[Any, ...] | None
    before: Any
    after: Any

    def as_data(self) -> dict[str, Any]:
        """Return it as the control API shows it, its file being the AWS service's."""
        shown = {"before": _shown(self.before), "after": _shown(self.after)}
        common = {"id": self.id, "operator": self.operator, "file": f"aws/{self.store}", "line": 0, **shown}
        return {**common, "group": "infrastructure", "services": [], "lines": [], "equivalent": ""}


def _shown(value: Any) -> str:
    """Return a value as text, the same at each boot: what AWS makes up, and ports, are left out."""
    return _MADE_UP.sub("…", json.dumps(value, default=str, ensure_ascii=False))[:300]


def record_mutants() -> Iterator[RecordMutant]:
    """Yield every mutant of the present state."""
    counts: Counter[str] = Counter()
    for (module, name), store in stores().items():
        where = f"{module.rpartition('.')[2]}.{name}"
        if where not in SEEN:
            continue
        records = [
            (f"{where}:{_called(key, record, number)}", key, record)
            for number, (key, record) in enumerate(store._data.items())
        ]
        # By name: a restore may put records back in another order.
        for called, key, record in sorted(records, key=lambda each: each[0]):
            every: list[tuple[str, tuple[Any, ...] | None, Any, Any]] = [
                ("record-dropped", None, called, None)
            ]
            every += [
                (name, path, value, new)
                for path, value in _values(record)
                for name, new in changes(path, value)
            ]
            for operator, path, before, after in every:
                place = f"aws:{called}:{'.'.join(map(str, path or ()))}:{operator}"
                counts[place] += 1
                yield RecordMutant(f"{place}:{counts[place]}", operator, where, key, path, before, after)


def mutate(mutant_id: str) -> None:
    """Make one change; a restore of the emulator undoes it. Raises LookupError for an unknown id."""
    mutant = next((each for each in record_mutants() if each.id == mutant_id), None)
    if mutant is None:
        raise LookupError(f"no mutant {mutant_id!r}")
    store = next(
        store
        for (module, name), store in stores().items()
        if f"{module.rpartition('.')[2]}.{name}" == mutant.store
    )
    if mutant.path is None:
        del store._data[mutant.key]
    else:
        store._data[mutant.key] = _with(store._data[mutant.key], mutant.path, mutant.after)


def _values(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield (path, value) of all that is in a record; `json` in a path goes into a text."""
    parts: Any = ()
    if isinstance(value, MutableMapping):
        parts = [(key, each) for key, each in value.items() if not _OWN.search(str(key))]
    elif isinstance(value, list):
        parts = enumerate(value)
    elif isinstance(value, str) and value.startswith("{"):
        parts = [("json", json.loads(value))]
    for key, each in parts:
        if key != "json":
            yield (*path, key), each
        yield from _values(each, (*path, key))


def changes(path: tuple[Any, ...], value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (operator, new value) for the value at a path in a record."""
    key = path[-1]
    if isinstance(value, bool):
        yield "value-changed", not value
    elif isinstance(value, (int, float)):
        smallest, step = _NUMBERS.get(key, (0, 1))
        yield "value-changed", value + step
        if value - step >= smallest:
            yield "value-changed", value - step
    elif isinstance(value, str) and value and not value.startswith("{"):
        yield "value-changed", _OTHERS.get(value, f"{value}x")
    # What is listed is dropped, and never empty.
    elif isinstance(value, (list, MutableMapping)) and value and not isinstance(key, int):
        yield "emptied", type(value)()
    if isinstance(value, list) and len(value) > 1:
        for number in range(len(value)):
            yield "item-dropped", [*value[:number], *value[number + 1 :]]


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of a value with another one at a path in it."""
    if not path:
        return new
    key, rest = path[0], path[1:]
    if key == "json":
        return json.dumps(_with(json.loads(value), rest, new))
    if isinstance(value, list):
        return [*value[:key], _with(value[key], rest, new), *value[key + 1 :]]
    return {**value, key: _with(value[key], rest, new)}


def _called(key: Any, record: Any, number: int) -> str:
    last = str(key[-1]).rpartition("/")[2]
    if not _RANDOM.search(last):
        return last
    names = [record[name] for name in _NAMES if isinstance(record, MutableMapping) and name in record]
    return str(names[0]) if names else f"n{number}"
