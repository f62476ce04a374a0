"""The emulator's process: `python -m stack.aws.server`, ministack and a control API on one loopback port.

The control API does what no AWS API does:

- `PUT /_stack/metrics`: the series to publish from now on
- `POST /_stack/remember`: take the present state as the one to come back to
- `POST /_stack/restore`: bring it back, with every alteration undone
- `PUT /_stack/faults/{name}`: alter something (`stack.aws.alterations`); the body is its parameters
- `GET /_stack/mutants`: every small change of the present state; `PUT` makes the one of `{"id"}`
- `GET /_stack/state`: `{"digest": sha256, "seeded": bool}`, which the others answer as well
"""

import asyncio
import json
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from stack.aws import alterations, internals
from stack.aws.access_alterations import new_key
from stack.aws.emulator import Emulator, LoadBalancer
from stack.aws.internals import stores
from stack.aws.inventory import SIGNERS, Listener, secret_id
from stack.host import LOOPBACK

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
_NAMES = ("Name", "GroupName", "LoadBalancerName", "TargetGroupName", "DomainName", "name", "Port")


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


VERSION = "1.5.33"  # internals.py reaches into it: another version must be tried first
PATH = "/_stack/"
TICK_S = 0.1
FEED_EVERY = 150


class ControlApi:
    """An ASGI application that answers under /_stack/ itself and passes everything else on."""

    def __init__(self, app: ASGIApp, emulator: Emulator) -> None:
        self._app = app
        self._emulator = emulator
        self._snapshot: internals.Snapshot | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._tick, name="stack-tick", daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        app: ASGIApp | None = None
        if scope["type"] == "http":
            request = Request(scope, receive)
            if request.url.path.startswith(PATH):
                app = await self._answer(request)
            else:
                own = self._emulator
                parts = (own.refusals, own.scaling, own.mutes, own.further)
                app = next(filter(None, (each.answer(request) for each in parts)), None)
        await (app or self._app)(scope, receive, send)

    async def _answer(self, request: Request) -> JSONResponse:
        path = request.url.path.removeprefix(PATH).split("/")
        try:
            body = json.loads(await request.body() or b"{}")
            return JSONResponse(await asyncio.to_thread(self._act, request.method, path, body))
        except (LookupError, ValueError, TypeError) as error:
            return JSONResponse({"error": "INVALID_REQUEST", "message": str(error)}, 400)

    def _act(self, method: str, path: list[str], body: Any) -> dict[str, Any]:
        emulator = self._emulator
        with self._lock:
            match method, path:
                case "PUT", ["metrics"]:
                    emulator.metrics.publish(body["series"])
                    emulator.metrics.feed()
                case "POST", ["remember"]:
                    emulator.metrics.remember()
                    emulator.metrics.feed()
                    self._snapshot = internals.Snapshot()
                case "POST", ["restore"]:
                    emulator.heal()
                    if self._snapshot:
                        self._snapshot.restore()
                    emulator.metrics.feed()
                case "PUT", ["faults", name]:
                    alterations.apply(emulator, name, body)
                    emulator.metrics.feed()
                case "GET", ["mutants"]:
                    return {"mutants": [each.as_data() for each in record_mutants()]}
                case "PUT", ["mutants"]:
                    mutate(body["id"])
                    emulator.metrics.feed()
                case "GET", ["state"]:
                    pass
                case _:
                    raise LookupError(f"no such request: {method} {'/'.join(path)}")
            return {"digest": internals.digest(), "seeded": self._snapshot is not None}

    def _tick(self) -> None:
        clock = threading.Event()
        count = 0
        while not clock.wait(TICK_S):
            count += 1
            with self._lock:
                self._emulator.one_shots.finish()
                if count % FEED_EVERY == 0:
                    self._emulator.metrics.feed()


def _secret(service: str) -> str:
    """A fresh signing key: PEM, or JSON that names its kid, as STACK_SECRETS says."""
    if os.environ.get("STACK_SECRETS") != "json":
        return new_key()
    return json.dumps({"schemaVersion": 1, "activeKid": f"{service}-2026-02", "privateKey": new_key()})


async def _serve(port: str, listeners: list[dict[str, Any]], home: Path) -> None:
    config = Config()
    config.bind = [f"{LOOPBACK}:{port}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    # Created before the port opens: the services need nothing else of AWS to start, and do not wait for the
    # rest of the seed.
    for service in SIGNERS:
        await internals.create_secret(secret_id(service), _secret(service))
    balancer = LoadBalancer([Listener(**each) for each in listeners], home)
    await balancer.serve()
    emulator = Emulator(f"http://{LOOPBACK}:{port}", balancer)
    await serve(ControlApi(app, emulator), config)  # type: ignore[arg-type]  # app is untyped


def main() -> None:
    """Serve until SIGTERM; ends with exit code 1 when another version is installed.

    The environment holds STACK_PORT, STACK_LISTENERS, a TMPDIR of the run's own, and ministack's settings,
    which it reads when it is imported.
    """
    installed = metadata.version("ministack")
    if installed != VERSION:
        sys.exit(f"ministack {installed} is installed, {VERSION} is needed: pip install ministack=={VERSION}")
    listeners = json.loads(os.environ["STACK_LISTENERS"])
    asyncio.run(_serve(os.environ["STACK_PORT"], listeners, Path(os.environ["TMPDIR"])))


if __name__ == "__main__":
    main()
