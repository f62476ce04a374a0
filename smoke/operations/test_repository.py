"""Phase operations, from a checkout: the pipeline's migration gate, rollbacks, decisions."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pytest_readiness import Environment, Evidence, SetupError

from smoke.aws.names import Names
from smoke.source.checkout import Checkout
from smoke.source.infrastructure.definitions import Definitions
from smoke.source.infrastructure.resource_policies import unassumable
from smoke.source.infrastructure.tasks import startup_migrations, swallowed
from smoke.source.pipeline.delivery import delivered
from smoke.source.pipeline.deploys import Pipeline, unseen
from smoke.source.pipeline.effects import ineffective
from smoke.source.pipeline.gate import MigrationGate, examine, overrides, undeployed, unmigrated
from smoke.source.pipeline.programs import started_migrations, unfit_images, ungiven
from smoke.source.pipeline.repository import Repository
from smoke.source.pipeline.rollback import Edit, Row, edits, launch, revert, rows, verify
from smoke.source.pipeline.rollout import misdelivered, smoke_keys, uncarried, undecided
from smoke.source.pipeline.validity import invalid
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.values import is_known, text

pytestmark = [pytest.mark.phase("operations"), pytest.mark.requires("iac"), pytest.mark.static]


@pytest.fixture(scope="session")
def repository(checkout: Checkout) -> Repository:
    """The workflows of the checkout, and what they call."""
    return Repository.of(checkout)


@pytest.fixture
def images(plan_inventory: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Service names by the image that they share."""
    found: dict[str, list[str]] = {}
    for row in plan_inventory:
        if row["image"]:
            found.setdefault(row["image"], []).extend((row["ecs"], row["key"]))
    return found


def services_of(plan_facts: Mapping[str, Any]) -> list[str]:
    """The names of the definitions, with those of their services and tasks."""
    return [name for group, members in plan_facts["definitions"].items() for name in (group, *members)]


@pytest.fixture
def pipeline(plan_facts: Mapping[str, Any]) -> Pipeline:
    """The plan's facts of the pipeline."""
    return Pipeline.of(plan_facts["pipeline"], services_of(plan_facts), plan_facts["source"]["prefix"])


@pytest.fixture
def gate(repository: Repository, pipeline: Pipeline, evidence: Evidence) -> MigrationGate:
    """What the workflows say about the migration job."""
    found = examine(repository, pipeline)
    evidence.figure("deploy jobs", list(found.deploys))
    evidence.evaluated("no deployment without a successful migration", len(found.deploys))
    for note in found.notes:
        evidence.note(note)
    return found


@pytest.mark.p0
def test_pipeline_deploys_only_after_migrations(gate: MigrationGate, evidence: Evidence) -> None:
    """Every deploy job of any workflow needs the migration job, and runs only when that has succeeded."""
    evidence.figure("ways past the gate", len(gate.bypass.findings), expected=0)
    gate.bypass.require()


@pytest.mark.p0
def test_pipeline_migrations_cannot_fail_unnoticed(gate: MigrationGate, evidence: Evidence) -> None:
    """The migration job is a success only when every migration is."""
    evidence.figure("ways to succeed without a migration", len(gate.void.findings), expected=0)
    gate.void.require()


@pytest.mark.p1
def test_pipeline_runs_every_migration(
    repository: Repository, pipeline: Pipeline, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """The migration job runs every migration of the plan."""
    migrations = plan_facts["source"]["migrations"]
    evidence.evaluated("the migration job runs the migration", len(migrations))
    unmigrated(repository, pipeline, migrations).require()


@pytest.mark.p1
def test_pipeline_deploys_every_service(
    repository: Repository, pipeline: Pipeline, pytestconfig: pytest.Config, evidence: Evidence
) -> None:
    """Each service of the plan's inventory that has an image of its own is deployed by a job."""
    plan = tomllib.loads((pytestconfig.rootpath / "readiness.toml").read_text("utf-8"))
    services = {row["ecs"]: [row["key"]] for row in plan["inventory"] if row["image"]}
    found, jobs = undeployed(repository, pipeline, services)
    evidence.figure("deploy jobs by service", jobs)
    evidence.evaluated("a job deploys the service", len(services))
    found.require()


@pytest.mark.p1
def test_pipeline_deploys_each_service_as_itself(
    repository: Repository,
    pipeline: Pipeline,
    images: Mapping[str, Sequence[str]],
    environment: Environment,
    evidence: Evidence,
) -> None:
    """No deploy job uses another service's image, or another environment's prefix, region or secrets."""
    count, found = misdelivered(repository, pipeline, images, environment.aws.region)
    evidence.figure("deploy jobs", count, at_least=1)
    found.not_examined.extend(unseen(repository, pipeline))
    found.require()


@pytest.mark.p1
def test_pipeline_carries_deployments_out(
    repository: Repository,
    pipeline: Pipeline,
    terraform: Configuration,
    definitions: Definitions,
    images: Mapping[str, Sequence[str]],
    evidence: Evidence,
) -> None:
    """A failed or unstable deployment fails its job; what is built is pushed and deployed."""
    cluster = Names(pipeline.prefix).cluster
    count, found = uncarried(repository, pipeline, cluster)
    declared = [each.attribute("name") for each in terraform.of_type("aws_ecs_cluster")]
    others = [text(name) if is_known(name) else "" for name in declared]
    found.findings.extend(delivered(repository, pipeline, images, definitions, cluster, others))
    tasks = [each.attribute("family") for each in terraform.of_type("aws_ecs_task_definition")]
    families = [text(family) for family in tasks if is_known(family)]
    found.findings.extend(ineffective(repository, pipeline, families))
    found.findings.extend([*ungiven(repository, images, definitions), *unassumable(terraform)])
    built = unfit_images(repository, images, definitions)
    found.include(built)
    found.not_examined.extend(unseen(repository, pipeline))
    evidence.figure("deploy jobs", count, at_least=1)
    found.require()


@pytest.mark.p1
def test_pipeline_workflows_are_valid(repository: Repository, evidence: Evidence) -> None:
    """GitHub accepts every workflow, no reference is missing, and every job can run."""
    count, examined = invalid(repository)
    evidence.figure("jobs", count, at_least=1)
    examined.require()


@pytest.mark.p1
def test_pipeline_smoke_job_has_its_keys(
    repository: Repository, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """The job that runs the smoke suite has the keys without which most checks would be skipped."""
    facts = plan_facts["pipeline"]
    found, jobs = smoke_keys(repository, facts["smoke_commands"], facts["smoke_keys"])
    evidence.figure("smoke jobs", jobs)
    evidence.figure("keys that they need", facts["smoke_keys"])
    found.require()


@pytest.mark.p1
def test_pipeline_smoke_job_decides(
    repository: Repository, pipeline: Pipeline, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """The smoke job runs after every deployment, and fails when the suite fails."""
    facts = plan_facts["pipeline"]
    environment = plan_facts["source"]["prefix"].rpartition("-")[2]
    count, found = undecided(repository, pipeline, facts["smoke_commands"], environment)
    evidence.figure("smoke jobs", count)
    found.require()


@pytest.mark.p0
def test_migrations_are_defined_as_one_shots(
    terraform: Configuration,
    definitions: Definitions,
    repository: Repository,
    pipeline: Pipeline,
    images: Mapping[str, Sequence[str]],
    plan_facts: Mapping[str, Any],
    evidence: Evidence,
) -> None:
    """Each migration has a task definition and command of its own; no service migrates at start."""
    migrations = plan_facts["source"]["migrations"]
    evidence.figure("migrations", migrations)
    overridden = overrides(repository, pipeline)
    examined = startup_migrations(terraform, definitions, migrations, overridden=overridden)
    started = started_migrations(repository, images, definitions, [] if overridden else migrations)
    lost = swallowed(definitions, [] if overridden else migrations)
    for each in (started, lost):
        examined.include(each)
    examined.require()


@pytest.mark.p1
def test_rollback_full_revert_applies(
    checkout: Checkout, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """Reverting the launch commit applies cleanly today, and covers what the partial rollbacks restore."""
    facts = plan_facts["rollback"]
    planned = launch(checkout, facts)
    evidence.figure("how the commit was found", planned.found)
    with checkout.scratch() as worktree:
        reverted = revert(checkout, planned.commit, worktree)
        evidence.figure("commit", f"{planned.commit[:12]} {reverted.subject}")
        evidence.figure("files that the revert changes", list(reverted.files))
        values = {
            step: step.current(Checkout(worktree).text(step.file))
            for step in edits([*facts["tertiary"], *facts["secondary"]])
        }
    evidence.figure("values after the revert", {str(step): value for step, value in values.items()})
    others = [
        f"{step}: {value!r} instead of {step.to!r}" for step, value in values.items() if value != step.to
    ]
    assert not others, f"the revert does not restore the previous defaults: {'; '.join(others)}"


@pytest.mark.p1
def test_rollback_tertiary_can_be_disabled(
    checkout: Checkout, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """The key to remove for disabling the third model exists, and its removal changes nothing else."""
    verify_all(edits(plan_facts["rollback"]["tertiary"]), checkout, evidence)


@pytest.mark.p1
def test_rollback_secondary_can_be_reverted(
    checkout: Checkout, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """The files still hold the values that the rollback edits, and each edit changes nothing else."""
    verify_all(edits(plan_facts["rollback"]["secondary"]), checkout, evidence)


def verify_all(planned: list[Edit], checkout: Checkout, evidence: Evidence) -> None:
    """Try every step in memory; report all impossible steps at once."""
    problems: list[str] = []
    unread: list[SetupError] = []
    for step in planned:
        try:
            current, after = verify(step, checkout.text(step.file))
        except AssertionError as problem:
            problems.append(str(problem))
        except SetupError as problem:
            unread.append(problem)
        else:
            evidence.figure(str(step), f"{current}, after the step {after or 'removed'}")
    evidence.evaluated("a step of the plan can be taken", len(planned))
    assert planned, "the plan names no step"
    assert not problems, "; ".join(problems)
    if unread:
        raise unread[0]


@pytest.mark.p1
def test_decisions_of_the_notes_are_in_the_plan(
    checkout: Checkout, plan_facts: Mapping[str, Any], pytestconfig: pytest.Config, evidence: Evidence
) -> None:
    """Every decision in the notes is in the plan; generated rows do not count."""
    plan = tomllib.loads((pytestconfig.rootpath / "readiness.toml").read_text("utf-8"))
    planned = {Row(0, row["date"], row["decision"], "").key for row in plan.get("decision", ())}
    path, tools = plan_facts["source"]["decisions"], plan_facts["source"]["tool_sources"]
    if not (checkout.root / path).is_file():
        raise SetupError(
            f"not examined: {path} is not in the checkout\ncorrect [facts.source] decisions in readiness.toml"
        )
    try:
        recorded = list(rows(checkout.text(path)))
    except LookupError as error:
        raise SetupError(f"not examined: {path}: {error.args[0]}") from error
    decisions = [row for row in recorded if row.source not in tools]
    evidence.figure("rows of the table", len(recorded))
    evidence.figure("rows that a tool wrote", len(recorded) - len(decisions))
    evidence.figure("decisions in the notes", len(decisions))
    evidence.figure("decisions in the plan", len(planned))
    unknown = [f"{path}:{row.line}: {row.decision}" for row in decisions if row.key not in planned]
    assert not unknown, f"decisions that the plan does not have: {'; '.join(unknown)}"
