"""The state that all parts of the adapter share during a run, and the fixtures that expose it to a suite.

Every input is validated before anything is collected or sent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from ..core.classify import failure_of
from ..core.errors import PlanError, ProfileError, ReadinessError, SetupError
from ..core.formats import HANDOVER, RUN_ID, monotonic, new_run_id, text_of
from ..core.network import AWS_VARIABLES
from ..core.plan import Plan
from ..core.redaction import Redactor
from ..profile import Environment, Vault, load_profile, load_schema, read_plan
from ..profile.profile import Offer, Profile, SecretRef
from ..profile.schema import Schema
from .checks import Availability, Check, Down, Refusal
from .evidence import Eventually, Evidence, EvidenceLog, Parts, Value
from .leftovers import Origin
from .machinery import Machinery
from .options import Settings

if TYPE_CHECKING:
    from ..report.attestation import PrivateKey

#: Exceptions that end a run on purpose, wherever they are raised.
STOPS = (KeyboardInterrupt, pytest.exit.Exception)
#: Seconds: the shortest pause of `eventually` between two probes.
LEAST_PAUSE_S = 0.005
OVERLAY_SOURCE = "hook pytest_readiness_environment"


@dataclass(slots=True, kw_only=True)
class RunContext:
    """One run in one process: its validated inputs, and the few lists that all parts write to.

    ``environment`` is None only if no check runs, as with ``--collect-only``.
    """

    settings: Settings
    run_id: str
    plan: Plan
    schema: Schema
    redactor: Redactor
    origin: Origin = field(default_factory=Origin)
    environment: Environment | None = None
    vault: Vault | None = None
    #: Signs the verdict if ``--attest`` is given; only on the controller.
    signer: PrivateKey | None = None
    #: The environment variables before a hook sets others.
    given: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Capability -> the check that found it down, as far as this process has seen.
    down: dict[str, Down] = field(default_factory=dict)
    #: Failures that belong to no check.
    stray: list[str] = field(default_factory=list)
    #: The adapter's own remarks, for the report.
    notes: list[str] = field(default_factory=list)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The names of the capabilities that the schema defines."""
        return tuple(self.schema.capabilities)

    def availability(self, name: str) -> Availability | None:
        """Return whether the environment has a capability; None if the schema does not define it."""
        if self.environment is None or self.vault is None or name not in self.schema.capabilities:
            return None
        capability = self.environment.profile.capability(name)
        if capability.status is Offer.ABSENT:
            return Availability(
                available=False,
                declared=True,
                reason=f"capability {name!r} is not offered: {capability.reason}",
            )
        if capability.option == "drills" and not self.settings.drills:
            return Availability(available=False, declared=True, reason=f"{name} needs --drills")
        missing = [self.vault.unresolved[key] for key in capability.secrets if key in self.vault.unresolved]
        if missing:
            reason = f"{name} is configured but unavailable: {missing[0]}"
            return Availability(available=False, reason=reason, missing=missing[0])
        return Availability(available=True)

    def variables(self, profile: Profile) -> tuple[str, ...]:
        """Return the environment variables that the run got from its caller: the profile's, and AWS's.

        Variables that a hook has set or changed are left out.
        """
        uses_aws = self.settings.is_distributed or "botocore" in sys.modules
        names = {*profile.variables, *(AWS_VARIABLES if uses_aws else ())}
        return tuple(
            sorted(name for name in names if name in self.given and os.environ.get(name) == self.given[name])
        )


#: The plugin's values on pytest's objects: one typed key each.
RUN: pytest.StashKey[RunContext] = pytest.StashKey()
CHECK: pytest.StashKey[Check] = pytest.StashKey()
EVIDENCE: pytest.StashKey[EvidenceLog] = pytest.StashKey()
REFUSAL: pytest.StashKey[Refusal] = pytest.StashKey()
PARTS: pytest.StashKey[Parts] = pytest.StashKey()
#: The plugin's registered objects in this process, by name.
REGISTERED: pytest.StashKey[dict[str, object]] = pytest.StashKey()
#: Whether everything that failed so far in the current attempt may be transient.
PASSING: pytest.StashKey[bool] = pytest.StashKey()
#: The code that runs checks, as it was before a conftest was imported; only in a run with a plan.
MACHINERY: pytest.StashKey[Machinery] = pytest.StashKey()


def taken_out(config: pytest.Config) -> list[str]:
    """Say what the suite's code took out: parts of the plugin, which missed events, or pytest's own code."""
    manager = config.pluginmanager
    gone = [
        f"{name} was unregistered by a conftest or a plugin: without this part, a run gets no verdict"
        for name, part in config.stash[REGISTERED].items()
        if manager.get_plugin(name) is not part
    ]
    installed = [plugin for plugin, _ in manager.list_plugin_distinfo()]
    machinery = config.stash.get(MACHINERY, None)
    return [*gone, *(machinery.replaced(config.rootpath, installed) if machinery else ())]


def own_run_id() -> tuple[str, str]:
    """Return the id of this run, and the file through which it tells its supervisor more; "" without one.

    The supervisor's variables are removed from the environment, because a run that a check starts is another
    run.
    """
    handover, given = (os.environ.pop(name, "") for name in (HANDOVER, RUN_ID))
    return (given, handover) if handover and given else (new_run_id(), "")


def hand_over(handover: str, settings: Settings, why: str = "") -> None:
    """Tell the supervisor where this run's reports are, or why it could not leave any."""
    if handover:
        run = {"reports": str(settings.reports), "environment": settings.environment, "why": why}
        Path(handover).write_text(json.dumps(run), encoding="utf-8")


def begin(settings: Settings, run_id: str, redactor: Redactor) -> RunContext:
    """Read plan and schema; ReadinessError if either is malformed."""
    plan = _read_plan(settings)
    redactor.use_prefixes(plan.policy.secret_prefixes)
    return RunContext(
        settings=settings,
        run_id=run_id,
        plan=plan,
        schema=load_schema(settings.root),
        redactor=redactor,
        given=dict(os.environ),
    )


def read_profile(config: pytest.Config, context: RunContext) -> Profile:
    """Read the profile that ``--env`` names; ProfileError if it is missing or malformed."""
    settings = context.settings
    return load_profile(settings.root, config.invocation_params.dir, settings.environment, context.schema)


def ask_hook(config: pytest.Config, context: RunContext, profile: Profile) -> dict[str, Any] | None:
    """Return what a hook adds to the profile, such as the addresses of a platform that it started.

    The hook is not called if no check runs, as when results of shards are merged. ProfileError if it fails.
    """
    if context.settings.merge:
        return None
    try:
        overlay = config.hook.pytest_readiness_environment(
            name=context.settings.environment, profile=profile, config=config
        )
        if not isinstance(overlay, Mapping | None):
            raise TypeError(f"it returned {type(overlay).__name__}, not a mapping of sections")
    except (pytest.UsageError, ReadinessError, *STOPS):
        raise
    except BaseException as problem:  # SystemExit and pytest.skip would also end the run silently
        raise ProfileError(
            failure_of(problem, str(context.settings.root)),
            where=OVERLAY_SOURCE,
            action="fix the hook or what it needs; to stop a run with a message, raise pytest.UsageError",
        ) from problem
    return dict(overlay) if overlay is not None else None


def enter(
    context: RunContext,
    profile: Profile,
    overlay: Mapping[str, Any] | None,
    unresolved: Mapping[str, str] | None = None,
) -> Environment:
    """Complete the profile and resolve its secrets; ProfileError for missing or forbidden values.

    On a worker, ``overlay`` and ``unresolved`` come from the controller.
    """
    settings = context.settings
    if overlay:
        profile = profile.overlaid(overlay, OVERLAY_SOURCE)
    if not settings.merge:  # no check runs, so the platform is not needed
        profile.check_complete()
    if settings.drills and profile.protected:
        raise ProfileError(
            f"environment {profile.name!r} is protected: no drill may change its state",
            where=profile.where("protected"),
            allowed="--drills on an environment that is not protected",
            action="leave --drills out",
        )
    context.vault = Vault(profile, context.redactor, unresolved)
    context.environment = Environment(profile, context.vault)
    context.vault.resolve_all(local_only=bool(settings.merge) or not settings.is_controller)
    if settings.attest and settings.is_controller:
        context.signer = _signer(context.vault, settings.attest)
    return context.environment


def _signer(vault: Vault, reference: str) -> PrivateKey:
    """Read the key that ``--attest`` names; ReadinessError if it cannot be read."""
    from ..report.attestation import private_key  # imports cryptography, which most runs do not need

    try:
        pem = vault.read(SecretRef.parse(reference), "--attest")
    except SetupError as problem:
        raise ProfileError(
            f"no key to sign with: {problem}",
            where="--attest",
            allowed="the path of a PEM with a private key, or env:NAME, file:PATH, secretsmanager:ID",
            action="openssl genpkey -algorithm ed25519 -out launch.pem makes one",
        ) from None
    return private_key(pem, "--attest")


def _read_plan(settings: Settings) -> Plan:
    plan = read_plan(settings.plan_path)
    if not (settings.root / plan.suite).is_dir():
        raise PlanError(
            f"no such directory: {plan.suite!r}",
            where=f"{plan.source}: suite",
            allowed="a directory under the rootdir",
        )
    return plan


@pytest.fixture(scope="session")
def environment(pytestconfig: pytest.Config) -> Environment:
    """The environment of this run: its profile, and ``secret(name)`` for the secrets to which it refers."""
    found = pytestconfig.stash[RUN].environment
    if found is None:
        raise pytest.UsageError("no environment is loaded: nothing is to be run")
    return found


@pytest.fixture(scope="session")
def plan_facts(pytestconfig: pytest.Config) -> Mapping[str, Any]:
    """The table [facts] of the launch plan: values for checks that are the same in every environment."""
    return MappingProxyType(dict(pytestconfig.stash[RUN].plan.facts))


@pytest.fixture(scope="session")
def plan_inventory(pytestconfig: pytest.Config) -> Sequence[Mapping[str, Any]]:
    """The [[inventory]] of the launch plan, one mapping per row: service, key, url, cpu, memory, image, ecs.

    A figure named ``inventory/<key>/<column>`` adds the observed value to the report.
    """
    return tuple(MappingProxyType(asdict(row)) for row in pytestconfig.stash[RUN].plan.inventory)


@pytest.fixture(scope="session")
def run_id(pytestconfig: pytest.Config) -> str:
    """The id of this run, the same on all workers."""
    return pytestconfig.stash[RUN].run_id


@pytest.fixture(scope="session")
def record_testsuite_property(
    pytestconfig: pytest.Config, record_testsuite_property: Callable[[str, object], None]
) -> Callable[[str, object], None]:
    """pytest's own, with secrets removed: its values reach the JUnit file without going through a report."""
    shown = pytestconfig.stash[RUN].redactor.shown

    def record(name: str, value: object) -> None:
        record_testsuite_property(shown(name), shown(text_of(value)))

    return record


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Records what this check measured; see :class:`Evidence`."""
    item: pytest.Item = request.node
    if EVIDENCE not in item.stash:  # entries of a test outside the suite are not reported
        item.stash[EVIDENCE] = EvidenceLog(request.config.stash[RUN].redactor)
    return Evidence(item.stash[EVIDENCE])


@pytest.fixture
def eventually(evidence: Evidence) -> Eventually:
    """Polls until a deadline and records how long it took.

    Each pause is as long as the polling has taken so far, up to `every` seconds: a fast effect is seen
    at once, and a slow one costs few probes.
    """

    def poll(probe: Callable[[], Value], *, within: float, every: float = 0.2, what: str) -> Value:
        started = monotonic()
        while True:
            value = probe()
            elapsed = monotonic() - started
            if value:
                evidence.figure(f"{what} after", round(elapsed, 3), "s", limit=within)
                return value
            if elapsed >= within:
                evidence.figure(f"{what} not after", round(elapsed, 3), "s", limit=within)
                raise AssertionError(f"{what}: not within {within:g} s; last value: {value!r}")
            threading.Event().wait(min(every, max(LEAST_PAUSE_S, elapsed), within - elapsed))

    return poll
