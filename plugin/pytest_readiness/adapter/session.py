"""The start of a run: every input is validated before anything is collected or sent."""

from __future__ import annotations

import secrets as tokens
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from ..core.errors import PlanError, ProfileError
from ..core.plan import Plan
from ..core.redaction import Redactor
from ..profile.environment import Environment, Vault
from ..profile.profile import Profile
from ..profile.project import load_profile, load_schema, read_plan
from .context import RunContext
from .options import Settings

OVERLAY_SOURCE = "hook pytest_readiness_environment"


def new_run_id() -> str:
    """Return an id that sorts by time and cannot collide."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{tokens.token_hex(3)}"


def begin(settings: Settings, run_id: str, redactor: Redactor) -> RunContext:
    """Read plan and schema; ReadinessError when one of them is malformed."""
    plan = _read_plan(settings)
    redactor.use_prefixes(plan.policy.secret_prefixes)
    return RunContext(
        settings=settings,
        run_id=run_id,
        plan=plan,
        schema=load_schema(settings.root),
        redactor=redactor,
    )


def read_profile(config: pytest.Config, context: RunContext) -> Profile:
    """Read the profile that ``--env`` asks for; ProfileError when there is none or it is malformed."""
    settings = context.settings
    return load_profile(settings.root, config.invocation_params.dir, settings.environment, context.schema)


def ask_hook(config: pytest.Config, context: RunContext, profile: Profile) -> dict[str, Any] | None:
    """Return what a hook adds to the profile, such as the addresses of a platform that it started."""
    told = config.hook.pytest_readiness_environment(
        name=context.settings.environment, profile=profile, config=config
    )
    return dict(told) if told is not None else None


def enter(
    context: RunContext,
    profile: Profile,
    overlay: Mapping[str, Any] | None,
    unresolved: Mapping[str, str] | None = None,
) -> Environment:
    """Complete the profile and resolve its secrets; ProfileError for what is missing or must not be.

    On a worker ``overlay`` and ``unresolved`` are what the controller found.
    """
    settings = context.settings
    if overlay:
        profile = profile.overlaid(overlay, OVERLAY_SOURCE)
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
    context.vault.resolve_all(local_only=not settings.is_controller)
    return context.environment


def _read_plan(settings: Settings) -> Plan:
    plan = read_plan(settings.plan_path)
    if not (settings.root / plan.suite).is_dir():
        raise PlanError(
            f"no such directory: {plan.suite!r}",
            where=f"{plan.source}: suite",
            allowed="a directory under the rootdir",
        )
    return plan
