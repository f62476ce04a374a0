"""`Stack` starts every part of the embedded platform, describes it as a profile, and removes it again.

Clean variants fulfil the contract in another way; each is a row of `variants.toml`:

id, what    the name, and the difference, for people
profile     values of the environment profile, by dotted key
settings    environment variables of every service and of the AWS emulator
sql         statements that follow the seed of the database
rewrite     rules of the fault proxy (`stack/faults/proxy.py`) that always hold, each with its `service`
aws         alterations (`stack/aws/alterations.py`) of what was seeded: `alter` names one
source      edits of the source tree (`stack/source_tree.py`)
group       variants of one group can be combined: the self-test runs the suite on all of them at once
"""

import json
import os
import re
import secrets
import sys
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import reduce
from itertools import product
from pathlib import Path
from string import Template
from typing import Any

from stack import pgbouncer, postgres, services, x402
from stack.aws.inventory import (
    AUTHORITY,
    CREDENTIALS,
    HEALTH,
    OPERATOR_ARN,
    PREFIX,
    REGION,
    ControlClient,
    Listener,
    secret_id,
)
from stack.control import Alterable, Appearance, Control, FaultBoard
from stack.host import LOOPBACK, RunDir, StackError, answers_ok, reserve
from stack.mutants.process import MutantBoard
from stack.pgbouncer import PgBouncer
from stack.postgres import Postgres
from stack.services import Addresses
from stack.source_tree import SourceTree
from stack.supervisor import Command, Part, Supervisor

VARIANTS_TABLE = Path(__file__).with_name("variants.toml")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table."""

    id: str
    what: str
    profile: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    sql: str = ""
    rewrite: Sequence[Mapping[str, Any]] = ()
    aws: Sequence[Mapping[str, Any]] = ()
    source: Sequence[Mapping[str, Any]] = ()
    group: str = ""

    @property
    def rules(self) -> dict[str, Mapping[str, Any]]:
        """The rules of the fault proxy, by ids that no fault has."""
        return {f"{self.id}:{number}": rule for number, rule in enumerate(self.rewrite)}

    def beside(self, other: "Variant") -> "Variant":
        """Both at once. Raises StackError if they give different values for the same thing."""
        for own, its in ((self.profile, other.profile), (self.settings, other.settings)):
            if both := own.keys() & its.keys():
                raise StackError(
                    f"variants {self.id} and {other.id} both set {min(both)}", "choose one of them"
                )
        return Variant(
            id=f"{self.id},{other.id}",
            what=f"{self.what}; {other.what}",
            profile={**self.profile, **other.profile},
            settings={**self.settings, **other.settings},
            sql="; ".join(filter(None, (self.sql, other.sql))),
            rewrite=(*self.rewrite, *other.rewrite),
            aws=(*self.aws, *other.aws),
            source=(*self.source, *other.source),
        )

    def alter(self, aws: ControlClient, source: SourceTree) -> None:
        """Make the alterations part of the state that a reset brings back. Raises StackError."""
        for each in self.aws:
            aws.alter(each["alter"], {name: value for name, value in each.items() if name != "alter"})
        if self.aws:
            aws.remember()
        if self.source:
            source.alter(self.what, {"edits": self.source})
            source.remember()

    def applied(self, profile: Mapping[str, Any]) -> dict[str, Any]:
        """A profile with this variant's values and its own name, so that its runs form a separate streak."""
        found = deepcopy(dict(profile))
        found["name"] = "-".join((found["name"], *filter(None, self.id.split(","))))
        for key, value in self.profile.items():
            *way, last = key.split(".")
            table = found
            for step in way:
                table = table.setdefault(step, {})
            table[last] = value
        return found


STANDARD = Variant(id="", what="The platform with the contract's first dialects")
VARIANTS = {row["id"]: Variant(**row) for row in tomllib.loads(VARIANTS_TABLE.read_text("utf-8"))["variant"]}


def variant(names: str) -> Variant:
    """The variant of that name, several at once (`messages,agent-at-one`), or the standard one for none.

    Raises StackError for an unknown name, and for variants that contradict each other.
    """
    chosen = names.split(",") if names else []
    for name in chosen:
        if name not in VARIANTS:
            raise StackError(f"no variant {name!r}", f"known: {', '.join(VARIANTS)}")
    return reduce(Variant.beside, (VARIANTS[name] for name in chosen)) if chosen else STANDARD


def toml(tables: Mapping[str, Any], within: str = "") -> str:
    """Tables as TOML, in which plain values are written as in JSON."""
    plain, nested = [], []
    for key, value in tables.items():
        name = key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key)
        if isinstance(value, dict):
            nested.append(f"\n[{within}{name}]\n{toml(value, f'{within}{name}.')}")
        else:
            plain.append(f"{name} = {json.dumps(value)}\n")
    return "".join(plain + nested)


SOURCE = "source"
#: The environment variable that chooses a variant where no name is given.
VARIABLE = "STACK_VARIANT"
PROFILE = Path(__file__).parent / "profile.toml"
# The services that the load balancer makes public.
PUBLIC = ("freeside", "dixie")
#: The keys of the payers on the chain, by file name.
WALLETS = ("wallet-key", "other-wallet-key")
LISTENER_PORTS = tuple(f"{name}-{kind}" for name in PUBLIC for kind in ("secure", "plain"))
PORTS = ("postgres", "pgbouncer", "aws", *x402.PROCESSES, *LISTENER_PORTS, *services.HEALTH)


class Stack:
    """A running platform. `Stack.start()` makes one; its processes cannot outlive the caller's.

    `profile` is the environment profile (never a secret's value) and `profile_path` the same as TOML;
    `environ` holds the credentials that the AWS emulator wants to see; `control_url` is the control API's.
    """

    def __init__(self, run_dir: Path | None = None, variant: Variant = STANDARD) -> None:
        self._variant = variant
        self._run = RunDir(run_dir)
        self._supervisor = Supervisor(self._run.logs)
        self._control: Control | None = None
        self.environ: dict[str, str] = dict(CREDENTIALS)
        self.profile: dict[str, Any] = {}
        self.profile_path = self._run.path / "profile.toml"
        self.control_url = ""

    @classmethod
    def start(cls, run_dir: Path | None = None, name: str = "") -> "Stack":
        """Start every part and return when all are ready.

        `run_dir` must be new or empty; by default it is a private temporary directory. `name` is a variant of
        `stack/variants.toml`, by default that of STACK_VARIANT, if any. Raises StackError with a message of
        three lines; what was started is stopped then, and only the logs are kept.
        """
        if sys.platform != "linux":
            raise StackError("the embedded platform runs on Linux only", f"this is {sys.platform}")
        stack = cls(run_dir, variant(name or os.environ.get(VARIABLE, "")))
        try:
            stack._boot()
        except Exception:
            stack._end(keep_logs=True)
            raise
        except BaseException:  # interrupted: nothing went wrong that the logs could explain
            stack._end(keep_logs=False)
            raise
        return stack

    @property
    def run_dir(self) -> Path:
        """The run's directory: logs, secrets, data."""
        return self._run.path

    @property
    def pids(self) -> dict[str, int]:
        """The process id of every part that is running."""
        return {name: child.popen.pid for name, child in self._supervisor.processes.items() if child.running}

    @property
    def ready_after(self) -> Mapping[str, float]:
        """When each part was ready, in seconds after the first one was started."""
        return self._supervisor.ready_after

    def stop(self) -> None:
        """Stop every part and delete the run's directory. A second call does nothing."""
        self._end(keep_logs=False)

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _boot(self) -> None:
        ports = dict(zip(PORTS, reserve(len(PORTS)), strict=True))
        addresses = services.Addresses.choose(ports, os.environ)
        environ = services.base_environ()
        server, server_parts = postgres.parts(self._run, ports["postgres"], environ)
        pooler, pooler_parts = pgbouncer.parts(self._run, ports["pgbouncer"], ports["postgres"], environ)
        endpoint = f"http://{LOOPBACK}:{ports['aws']}"
        api_key = self._run.secret("dixie-api-key", f"dxk_{secrets.token_urlsafe(32)}")
        faults_file = self._run.path / "faults.json"
        shared = {
            "STACK_AWS_ENDPOINT": endpoint,
            "STACK_FAULTS_FILE": str(faults_file),
            "STACK_DIXIE_API_KEY_FILE": str(api_key),
            **x402.settings(ports),
        }
        wallet_keys = [self._run.secret(name, f"0x{secrets.token_hex(32)}") for name in WALLETS]
        aws = ControlClient(endpoint)
        source = SourceTree.materialise(self._run.directory(SOURCE))
        alterable: dict[str, Alterable] = {
            "aws": aws,
            "source": source,
            "pooler": pgbouncer.AdminConsole(pooler),
        }
        faults = FaultBoard(faults_file, self._supervisor, alterable, self._variant.rules)
        mutants = MutantBoard(self._supervisor, source, aws, self._run.directory("traces"))
        self._control = Control(
            self._supervisor, faults, aws, server.dsn, Appearance(addresses), mutants, self._variant.sql
        )
        self._supervisor.boot(
            [
                *server_parts,
                *pooler_parts,
                *self._aws_parts(ports, addresses),
                *x402.parts(self._run, ports, wallet_keys),
                self._migrations(server, pooler),
                *self._services(addresses, shared, pooler),
            ]
        )
        self._variant.alter(aws, source)
        self.control_url = self._control.serve()
        self._write_profile(addresses, ports, api_key, pooler)

    def _aws_parts(self, ports: Mapping[str, int], addresses: Addresses) -> list[Part]:
        home = self._run.directory("aws")
        endpoint = f"http://{LOOPBACK}:{ports['aws']}"
        base = {**services.base_environ(), **CREDENTIALS, "STACK_AWS_ENDPOINT": endpoint}
        hosts = {"pgbouncer": f"{LOOPBACK}:{ports['pgbouncer']}", **addresses.hosts()}
        listeners = [
            Listener(name, ports[f"{name}-secure"], ports[f"{name}-plain"], hosts[name]) for name in PUBLIC
        ]
        environ = {**base, **_emulator_environ(ports["aws"], home, listeners), **self._variant.settings}
        serve = Command(services.python("stack.aws.server"), environ, home)
        known = {"STACK_ADDRESSES": ",".join(f"{name}={host}" for name, host in hosts.items())}
        seed = Command(services.python("stack.aws.seed"), {**base, **known}, home)
        # The seed waits for the emulator itself: that way it imports while the emulator does.
        return [
            Part("aws", serve, ready=lambda: answers_ok(endpoint + HEALTH), volatile=True),
            Part("aws-seed", seed),
        ]

    def _migrations(self, server: Postgres, pooler: PgBouncer) -> Part:
        passwords = pgbouncer.password_file(self._run, pooler)
        environ = {"STACK_ADMIN_DSN": server.dsn, "STACK_DB_PASSWORDS_FILE": str(passwords)}
        environ |= {"STACK_SEED": self._variant.sql, **services.base_environ()}
        command = Command(services.python("stack.postgres"), environ, self._run.path)
        return Part("migrations", command, needs=frozenset({"postgres"}))

    def _services(self, addresses: Addresses, shared: Mapping[str, str], pooler: PgBouncer) -> list[Part]:
        dsns = {user: pooler.dsn(user) for user in pgbouncer.SHARES}
        needs = frozenset({"migrations", "pgbouncer", "aws"})
        return services.parts(self._run, addresses, shared, dsns, needs, self._variant.settings)

    def _write_profile(
        self, addresses: Addresses, ports: Mapping[str, int], api_key: Path, pooler: PgBouncer
    ) -> None:
        """Fill in `profile.toml`; a JSON string is written the same in TOML.

        STACK_FINN_KEY and STACK_DIXIE_API_KEY are references to the keys of stand-ins.
        """
        home = self._run.path
        values = {
            "dixie_api_key": os.environ.get("STACK_DIXIE_API_KEY") or f"file:{api_key}",
            "freeside_key": f"secretsmanager:{secret_id('freeside')}",
            "finn_key": os.environ.get("STACK_FINN_KEY") or f"secretsmanager:{secret_id('finn')}",
            "region": REGION,
            "prefix": PREFIX,
            "aws_url": f"http://{LOOPBACK}:{ports['aws']}",
            "operator_arn": OPERATOR_ARN,
            "ca_file": str(home / "aws" / AUTHORITY),
            "source": str(home / SOURCE),
            "chain_url": x402.urls(ports)["chain"] if x402.payable() else "",
            **{name.replace("-", "_"): f"file:{home / 'secrets' / name}" for name in WALLETS},
            "chain_id": str(x402.CHAIN_ID),
        }
        for user in (pgbouncer.ADMIN, *pgbouncer.SHARES):
            values[f"{user}_dsn"] = f"file:{self._run.secret(f'{user}-dsn', pooler.dsn(user))}"
        for name, url in addresses.urls.items():
            values[f"{name}_url"] = url
        # What a restart must survive is a crash; an orderly end would hide what a service keeps in memory.
        for name in ("freeside", "worker", "finn", "dixie", "pgbouncer", "postgres"):
            restart = f"{self.control_url}/services/{name}/crash"
            elsewhere = services.COMPANIONS.get(name, name) in addresses.replaced
            values[f"{name}_restart"] = "" if elsewhere else restart
        # Who is cut off breaks off in the middle of a stream.
        for name, (order, verb) in product(
            ("provider", "facilitator"), (("stop", "kill"), ("start", "start"))
        ):
            values[f"{name}_{order}"] = f"{self.control_url}/services/{name}/{verb}"
        for name in PUBLIC:
            values[f"{name}_public_url"] = f"https://{LOOPBACK}:{ports[f'{name}-secure']}"
            values[f"{name}_plain_url"] = f"http://{LOOPBACK}:{ports[f'{name}-plain']}"
        text = Template(PROFILE.read_text("utf-8")).substitute(
            {name: json.dumps(value) for name, value in values.items()}
        )
        self.profile = self._variant.applied(tomllib.loads(text))
        self.profile_path.write_text(toml(self.profile), "utf-8")

    def _end(self, *, keep_logs: bool) -> None:
        if not self._run.path.exists():
            return
        if self._control is not None:
            self._control.close()
        self._supervisor.shutdown()
        self._run.remove(keep_logs=keep_logs)


def _emulator_environ(port: int, home: Path, listeners: list[Listener]) -> dict[str, str]:
    """Return ministack's settings: loopback, no further listener, no container, nothing written elsewhere."""
    return {
        "BIND_HOST": LOOPBACK,
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": LOOPBACK,
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
        # A Docker daemon that exists must not be used: "running" tasks are records here, not containers.
        "DOCKER_HOST": f"unix://{home}/no-docker.sock",
        "TMPDIR": str(home),
        "S3_DATA_DIR": str(home / "s3"),
        "STATE_DIR": str(home / "state"),
        "STACK_PORT": str(port),
        "STACK_LISTENERS": json.dumps([asdict(each) for each in listeners]),
    }
