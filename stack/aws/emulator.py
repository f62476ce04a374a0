"""The emulator as alterations see it: its clients and load balancer, and state that no AWS API can change.

Runs in the emulator's process. ministack evaluates an alarm on all datapoints of its metric, whatever their
dimensions, and never by their absence; `evaluate` does it like CloudWatch.

The load balancer's public side has TLS for each public service, and plain HTTP that redirects to it. It
forwards bytes to the service; its certificates come from an authority that exists for one run.
"""

import asyncio
import contextlib
import ipaddress
import json
import operator
import re
import ssl
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.requests import Request
from starlette.responses import Response

from stack.aws import internals
from stack.aws.inventory import ACCOUNT, AUTHORITY, REGION, Listener, clients
from stack.host import LOOPBACK

ONE_SHOT_RUNS_FOR_S = 0.3
CBOR = "application/cbor"
STATUS = {"InternalFailure": 500, "ServiceUnavailable": 503}
# AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...
SIGNING_NAME = re.compile(r"Credential=[^/]*/[^/]*/[^/]*/([^/]+)/")
MINUTES = 16
COMPARE = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
# State of a window without datapoints, by TreatMissingData; None: it stays.
MISSING = {"missing": "INSUFFICIENT_DATA", "breaching": "ALARM", "notBreaching": "OK", "ignore": None}


class Emulator:
    """Holds the state that alterations change beyond the AWS APIs, and restores it."""

    def __init__(self, endpoint: str, load_balancer: "LoadBalancer") -> None:
        self.aws = clients(endpoint)
        self.load_balancer = load_balancer
        self.metrics = Metrics()
        self.one_shots = OneShots()
        self.refusals = Refusals()
        self.scaling = Scaling()
        self.mutes = Mutes()
        self.further = Further()
        self.notifications_lost = False
        internals.judge_alarms_by(evaluate)
        internals.deliver_notifications_if(lambda: not self.notifications_lost)
        internals.tell_endpoints_whole()
        internals.tell_conditions_whole()
        internals.tell_rotations()
        internals.tell_states_of_targets()

    def heal(self) -> None:
        """Undo every alteration outside the emulator's own state."""
        self.metrics.heal()
        self.one_shots.heal()
        self.refusals.heal()
        self.scaling.heal()
        self.mutes.heal()
        self.further.heal()
        self.load_balancer.heal()
        self.notifications_lost = False


class OneShots:
    """Ends every running task that no ECS service started, after a moment, with an exit code by family."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._codes: dict[str, int | None] = {}

    def decide(self, family: str, exit_code: int | None) -> None:
        """Let the next tasks of a family end with this code, or never (None)."""
        self._codes[family] = exit_code

    def heal(self) -> None:
        """Let every task end with 0 again."""
        self._codes = {}

    def finish(self, *, now: bool = False) -> None:
        """End the tasks that have run long enough; with `now`, all that must end."""
        for arn, family in internals.running_one_shots():
            code = self._codes.get(family, 0)
            ran_for = time.monotonic() - self._since.setdefault(arn, time.monotonic())
            if code is not None and (now or ran_for >= ONE_SHOT_RUNS_FOR_S):
                del self._since[arn]
                internals.end_task(arn, code)


class Refusals:
    """The AWS services that refuse every call, each with an error code: no permission, throttled, expired."""

    def __init__(self) -> None:
        self._codes: dict[str, tuple[str, str]] = {}

    def refuse(self, service: str, code: str, message: str = "") -> None:
        """Refuse every call of a service, by its signing name (`monitoring` for CloudWatch; `*` for all)."""
        self._codes[service] = code, message or f"the embedded platform answers {code} on request"

    def heal(self) -> None:
        """Refuse nothing."""
        self._codes = {}

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request that must be refused; None for any other."""
        if not self._codes:
            return None
        signed = SIGNING_NAME.search(request.headers.get("authorization", ""))
        refusal = self._codes.get(signed[1] if signed else "") or self._codes.get("*")
        if refusal is None:
            return None
        code, message = refusal
        content_type, body = _error(request.headers.get("content-type", ""), code, message)
        headers = {"smithy-protocol": "rpc-v2-cbor"} if content_type == CBOR else {}
        return Response(body, STATUS.get(code, 400), {"content-type": content_type, **headers})


class Scaling:
    """Application Auto Scaling, which ministack does not have: its answers, by operation."""

    def __init__(self) -> None:
        self.heal()

    def heal(self) -> None:
        """Remove all scaling."""
        self.targets: list[dict[str, Any]] = []
        self.actions: list[dict[str, Any]] = []
        self.policies: list[dict[str, Any]] = []

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request for it, None for any other."""
        signed = SIGNING_NAME.search(request.headers.get("authorization", ""))
        if signed is None or signed[1] != "application-autoscaling":
            return None
        lists = {
            "ScalableTargets": self.targets,
            "ScheduledActions": self.actions,
            "ScalingPolicies": self.policies,
        }
        operation = request.headers.get("x-amz-target", "").rpartition(".Describe")[2]
        body = json.dumps({operation: lists.get(operation, [])})
        return Response(body, 200, {"content-type": "application/x-amz-json-1.1"})


class Mutes:
    """Mute rules of alarms, which ministack does not have: none, or one that is active."""

    NAME = "maintenance"

    def __init__(self) -> None:
        self.heal()

    def heal(self) -> None:
        """Mute nothing."""
        self.alarms: list[str] = []

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request for it, None for any other."""
        arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm-mute-rule:{self.NAME}"
        listed = [{"AlarmMuteRuleArn": arn, "Status": "ACTIVE"}] if self.alarms else []
        answers: dict[str, dict[str, Any]] = {
            "ListAlarmMuteRules": {"AlarmMuteRuleSummaries": listed},
            "GetAlarmMuteRule": {"Name": self.NAME, "MuteTargets": {"AlarmNames": self.alarms}},
        }
        found = answers.get(request.headers.get("x-amz-target", "").rpartition(".")[2])
        if found is None:
            return None
        return Response(json.dumps(found), 200, {"content-type": "application/x-amz-json-1.0"})


class Further:
    """Answers that ministack lacks: of Route 53 by path, of EC2 by action."""

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}
        self._actions: set[str] = set()

    def heal(self) -> None:
        """Forget all of them."""
        self._answers = {}
        while self._actions:
            internals.answer_ec2(self._actions.pop(), "")

    def set_answer(self, path: str, answer: str) -> None:
        """Answer requests for a path of Route 53's API with this XML."""
        self._answers[f"/2013-04-01/{path}"] = answer

    def set_ec2_answer(self, action: str, answer: str) -> None:
        """Answer an action of EC2 with this inside of its XML."""
        self._actions.add(action)
        internals.answer_ec2(action, answer)

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request for it, None for any other."""
        found = self._answers.get(request.url.path)
        return None if found is None else Response(found, 200, {"content-type": "text/xml"})


def _error(asked_in: str, code: str, message: str) -> tuple[str, bytes]:
    """Return content type and body of an error, in the protocol of the request's content type."""
    if "cbor" in asked_in:
        return CBOR, b"\xa2" + b"".join(_cbor_text(text) for text in ("__type", code, "message", message))
    if "json" in asked_in:
        return "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message}).encode()
    xml = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return "text/xml", f"<ErrorResponse>{xml}</ErrorResponse>".encode()


def _cbor_text(text: str) -> bytes:
    data = text.encode()
    length = len(data)
    if length < 24:
        return bytes([0x60 + length]) + data
    return (bytes([0x78, length]) if length < 256 else b"\x79" + length.to_bytes(2, "big")) + data


class Metrics:
    """The series that the platform publishes: one datapoint a minute, the newest one now."""

    def __init__(self) -> None:
        self._published: list[dict[str, Any]] = []
        self._altered: dict[int, float | None] = {}
        self._kept = 0

    def publish(self, series: list[dict[str, Any]]) -> None:
        """Take the series to feed: each a mapping with namespace, name, dimensions (a mapping) and value."""
        self._published = series
        self.remember()

    def publish_too(self, series: dict[str, Any]) -> None:
        """Publish one more series until the platform is reset."""
        self._published.append(series)

    def remember(self) -> None:
        """Have `heal` keep what is published now."""
        self._kept = len(self._published)

    def alter(self, name: str, of: str, value: float | None) -> int:
        """Publish another value, or none at all, for the metric `name` of the resource `of`; return how many.

        `of` is the value of one of the metric's dimensions; empty for metrics that have none.
        """
        hit = [index for index, series in enumerate(self._published) if _is(series, name, of)]
        self._altered |= dict.fromkeys(hit, value)
        return len(hit)

    def heal(self) -> None:
        """Publish every series as remembered."""
        self._altered = {}
        del self._published[self._kept :]

    def feed(self) -> None:
        """Write the datapoints of the last minutes and evaluate every alarm."""
        now = time.time()
        times = [now - 60 * minute for minute in reversed(range(MINUTES))]
        for index, series in enumerate(self._published):
            internals.put_datapoints(series, self._altered.get(index, series["value"]), times)
        internals.judge_alarms()


def _is(series: Mapping[str, Any], name: str, of: str) -> bool:
    values = series["dimensions"].values()
    return bool(series["name"] == name and (of in values if of else not values))


def evaluate(alarm: dict[str, Any]) -> None:
    """Bring an alarm into the state that the datapoints of its own dimensions call for; run its actions.

    An alarm on an expression does not change.
    """
    if alarm.get("ExtendedStatistic"):
        alarm["Statistic"] = None  # an alarm has one or the other; ministack reports both
    watched = alarm
    if queries := alarm.get("Metrics"):
        if len(queries) > 1:
            return
        stat = queries[0]["MetricStat"]
        watched = {**stat["Metric"], "Period": stat["Period"], "Statistic": stat["Stat"]}
    window = watched["Period"] * alarm["EvaluationPeriods"]
    statistic = watched.get("ExtendedStatistic") or watched["Statistic"]
    value = internals.statistic_of(watched, statistic, window)
    if value is None:
        state = MISSING[alarm.get("TreatMissingData") or "missing"]
        reason = f"Insufficient Data: no datapoints in {window} seconds"
    else:
        breaching = COMPARE[alarm["ComparisonOperator"]](value, alarm["Threshold"])
        state = "ALARM" if breaching else "OK"
        reason = f"Threshold Crossed: {statistic} {value} against {alarm['Threshold']}"
    if state is not None:
        internals.enter_state(alarm, state, reason)


A_DAY = timedelta(days=1)
AUTHORITY_DAYS = 365
DAYS = 90
CHUNK = 65_536


class LoadBalancer:
    """Serves the listeners; certificates and redirects can be altered while it does."""

    def __init__(self, listeners: Iterable[Listener], home: Path) -> None:
        self._listeners = {each.service: each for each in listeners}
        self._directory = home / Path(AUTHORITY).parent
        self._directory.mkdir(exist_ok=True)
        self._authority = Authority(self._directory)
        self._contexts = {name: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for name in self._listeners}
        self._altered: set[str] = set()
        self._not_redirected: dict[str, bool] = {}
        for name in self._listeners:
            self._certify(name, LOOPBACK, DAYS, trusted=True)

    async def serve(self) -> None:
        """Open all ports."""
        for name, listener in self._listeners.items():
            await asyncio.start_server(
                partial(_pass_on, listener.upstream), LOOPBACK, listener.secure, ssl=self._contexts[name]
            )
            await asyncio.start_server(partial(self._plain, listener), LOOPBACK, listener.plain)

    def certificate(self, service: str, host: str, days: int, *, trusted: bool) -> None:
        """Present another certificate; KeyError for a service that is not public."""
        self._altered.add(self._listeners[service].service)
        self._certify(service, host, days, trusted=trusted)

    def serve_plain(self, service: str, *, root: bool) -> None:
        """Forward plain HTTP instead of redirecting it, with or without the root path.

        KeyError for a service that is not public.
        """
        self._not_redirected[self._listeners[service].service] = root

    def heal(self) -> None:
        """Restore good certificates and redirects everywhere."""
        self._not_redirected.clear()
        while self._altered:
            self._certify(self._altered.pop(), LOOPBACK, DAYS, trusted=True)

    def _certify(self, service: str, host: str, days: int, *, trusted: bool) -> None:
        path = self._directory / f"{service}.pem"
        context = self._contexts[service]
        self._authority.issue(path, host, days, trusted=trusted)
        context.load_cert_chain(path)

    async def _plain(
        self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            asked = await reader.readuntil(b"\r\n\r\n")
            head = asked.decode("latin-1").split(" ", 2)
            path = head[1] if len(head) > 1 else "/"
            plain = self._not_redirected.get(listener.service)
            if plain or (plain is not None and path != "/"):
                await _pass_on(listener.upstream, reader, writer, asked)
                return
            location = f"https://{LOOPBACK}:{listener.secure}{path}"
            redirect = f"HTTP/1.1 301 Moved Permanently\r\nLocation: {location}\r\n"
            writer.write(f"{redirect}Content-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1"))
            await writer.drain()
        writer.close()


async def _pass_on(
    upstream: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, read: bytes = b""
) -> None:
    host, _, port = upstream.rpartition(":")
    with contextlib.suppress(OSError):
        back_reader, back_writer = await asyncio.open_connection(host, int(port))
        back_writer.write(read)
        await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


class Authority:
    """Signs certificates; clients trust its own certificate, the file `certificate`."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Embedded platform")])
        self.certificate = directory / "authority.pem"
        own = _builder(self._name, self._name, self._key.public_key(), AUTHORITY_DAYS)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate.write_bytes(_pem(own.sign(self._key, hashes.SHA256())))

    def issue(self, path: Path, host: str, days: int, *, trusted: bool = True) -> None:
        """Write key and certificate of a host to one file; without `trusted` it is self-signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        issuer, signer = (self._name, self._key) if trusted else (name, key)
        builder = _builder(name, issuer, key.public_key(), days)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(host)]), critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.touch(0o600)
        path.write_bytes(private + _pem(builder.sign(signer, hashes.SHA256())))


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(datetime.now(UTC), end) - A_DAY)
        .not_valid_after(end)
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
