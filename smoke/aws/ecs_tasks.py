"""What runs: tasks in ECS, whether they stay up, and how they are scaled."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pytest_readiness import SetupError

from smoke.source.checkout import Examined

from .account import AwsAccount, at_once
from .ecs import IN_ECR, ContainerDefinition, EcsService, TaskDefinition, describe_image
from .names import Names

TASKS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A service's running task: `definition` is its revision, `images` and `digests` are by container name.

    `addresses` are its own IPv4 addresses.
    """

    name: str
    definition: str
    health: str
    images: Mapping[str, str]
    digests: Mapping[str, str] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One run of a one-shot task; a container without an exit code has None."""

    status: str
    created_at: datetime
    reason: str
    exit_codes: Mapping[str, int | None]


STOPPED = "STOPPED"


def last_of(runs: Sequence[TaskRun]) -> TaskRun | None:
    """The newest run that ECS still knows; runs come oldest first."""
    return runs[-1] if runs else None


def failure_of(run: TaskRun, definition: TaskDefinition | None = None) -> str:
    """Why a run does not count as a successful migration; empty if it does.

    An exit code is final only once the task is STOPPED. A container without one never ran to its end. ECS
    stops a container that is not essential with the task, so its exit code says nothing.
    """
    if run.status != STOPPED:
        return f"the last run is {run.status}, not stopped"
    if not run.exit_codes:
        return "the last run had no container"
    beside = {each.name for each in definition.containers if not each.essential} if definition else set()
    bad = {name: code for name, code in run.exit_codes.items() if code != 0 and name not in beside}
    if not bad:
        return ""
    ended = ", ".join(
        f"{name} {'without an exit code' if code is None else code}" for name, code in bad.items()
    )
    return f"the last run ended with {ended}" + (f" ({run.reason})" if run.reason else "")


def read_runs(account: AwsAccount, names: Names, family: str) -> list[TaskRun]:
    """The runs of a family that ECS still lists, oldest first. It drops a stopped task after an hour."""
    listed = at_once(
        lambda status: _arns(account, names, family=family, desiredStatus=status), (STOPPED, "RUNNING")
    )
    runs = [run_of(each) for each in _tasks(account, names, [arn for arns in listed for arn in arns])]
    return sorted(runs, key=lambda run: run.created_at)


def read_running(account: AwsAccount, names: Names, service: str) -> list[RunningTask]:
    """The tasks of a service that are running now."""
    arns = _arns(account, names, serviceName=names.full(service))
    return [
        RunningTask(
            each["taskArn"].rpartition("/")[2],
            each["taskDefinitionArn"].rpartition("/")[2],
            each.get("healthStatus", "UNKNOWN"),
            {box["name"]: box["image"] for box in each.get("containers", ()) if box.get("image")},
            {box["name"]: box["imageDigest"] for box in each.get("containers", ()) if box.get("imageDigest")},
            frozenset(
                detail["value"]
                for attachment in each.get("attachments", ())
                for detail in attachment.get("details", ())
                if detail.get("name") == "privateIPv4Address"
            ),
        )
        for each in _tasks(account, names, arns)
        if each["lastStatus"] == "RUNNING"
    ]


def addresses_of(account: AwsAccount, names: Names, service: str) -> frozenset[str] | None:
    """The addresses of a service's running tasks; None if one has none of its own."""
    found = [each.addresses for each in read_running(account, names, service)]
    return frozenset().union(*found) if all(found) else None


#: Media types of multi-platform images: a task runs one of their manifests.
_SEVERAL = re.compile(r"manifest\.list|image\.index")


def moved(account: AwsAccount, container: ContainerDefinition, tasks: Iterable[RunningTask]) -> list[str]:
    """The ECR images that run as this container but that its next task would not get.

    ECS starts all tasks of a service with the digest that the tag first referred to, which must still exist;
    with `versionConsistency` disabled, with the current digest of the tag.
    """
    name = container.name
    running = {(each.images[name], each.digests[name]) for each in tasks
               if name in each.images and name in each.digests}  # fmt: skip
    return [
        why
        for image, digest in sorted(running)
        for why in _moved(account, image, digest, kept=container.keeps_digest)
    ]


def _moved(account: AwsAccount, image: str, digest: str, *, kept: bool) -> Iterator[str]:
    found = IN_ECR.fullmatch(image)
    if found is None or found["digest"] or found["region"] != account.region:
        return
    named = describe_image(account, found)
    several = any(_SEVERAL.search(each.get("imageManifestMediaType", "")) for each in named)
    digests = [each["imageDigest"] for each in named]
    there = (kept or several) and describe_image(account, found, digest)
    if digests and digest not in digests and not there:
        yield f"the tag of {image} was moved: it names {digests[0][:19]}, but {digest[:19]} runs"


#: This many tasks that stopped on their own within the hour that ECS remembers are not a coincidence.
MANY_ENDS = 5
_BY_ITSELF = ("EssentialContainerExited", "TaskFailedToStart")


def restless(account: AwsAccount, names: Names, service: EcsService) -> str:
    """Why the deployed tasks do not keep running; empty if they do.

    Tasks that ended before the running ones began may have had a cause that is now fixed. That is proved once
    a running task has outlived them; SetupError until then.
    """
    stopped, running = (
        [
            each
            for arns in [_arns(account, names, serviceName=names.full(service.name), desiredStatus=status)]
            for each in _tasks(account, names, arns)
            if each["taskDefinitionArn"] == service.definition and each["lastStatus"] == status
        ]
        for status in (STOPPED, "RUNNING")
    )
    ended = [each for each in stopped if each.get("stopCode") in _BY_ITSELF and "stoppedAt" in each]
    began = min((each["startedAt"] for each in running if "startedAt" in each), default=None)
    if len(ended) < MANY_ENDS or began is None:
        return ""
    reasons = [each.get("stoppedReason") for each in ended]
    reasons += [box.get("reason") for each in ended for box in each.get("containers", ())]
    whys = "; ".join(sorted({*filter(None, reasons)})[:3])
    if sum(each["stoppedAt"] > began for each in ended) >= MANY_ENDS:
        return f"{len(ended)} of its tasks stopped on their own within the hour: {whys}"
    oldest = max(each["stoppedAt"] - each.get("startedAt", each["stoppedAt"]) for each in ended)
    missing = oldest - (datetime.now(UTC) - began)
    if missing > timedelta():
        raise SetupError(
            f"not examined: whether tasks of {service.name} keep running: {len(ended)} stopped on their own "
            f"within the hour ({whys}), and no running task has outlived them yet; "
            f"run again in {math.ceil(missing.total_seconds())} s"
        )
    return ""


def _arns(account: AwsAccount, names: Names, **of: str) -> list[Any]:
    return account.pages("ecs", "list_tasks", "taskArns", cluster=names.cluster, **of)


def _tasks(account: AwsAccount, names: Names, arns: Iterable[str]) -> list[Mapping[str, Any]]:
    """Tasks by ARN, in this order, without those that ECS has forgotten in the meantime."""
    wanted = list(dict.fromkeys(arns))
    tasks: dict[str, Any] = {}
    for at in range(0, len(wanted), TASKS_AT_ONCE):
        batch = wanted[at : at + TASKS_AT_ONCE]
        answer = account.ask("ecs", "describe_tasks", cluster=names.cluster, tasks=batch)
        tasks |= {task["taskArn"]: task for task in answer["tasks"]}
    return [tasks[arn] for arn in wanted if arn in tasks]


def run_of(described: Mapping[str, Any]) -> TaskRun:
    """A run from DescribeTasks."""
    return TaskRun(
        status=described["lastStatus"],
        created_at=described["createdAt"],
        reason=described.get("stoppedReason", ""),
        exit_codes={each["name"]: each.get("exitCode") for each in described["containers"]},
    )


#: A file with variables of a container.
_FILE = re.compile(r"arn:[\w-]+:s3:::(?P<bucket>[^/]+)/(?P<key>.+)")


def without_files(account: AwsAccount, tasks: Mapping[str, TaskDefinition]) -> Examined:
    """The tasks that cannot start because S3 has no file with their variables, by the services' names."""
    result = Examined()
    for name, task in tasks.items():
        for written in dict.fromkeys(one for box in task.containers for one in box.files):
            found = _FILE.fullmatch(written)
            if found is None:
                continue
            by = {"Bucket": found["bucket"], "Prefix": found["key"], "MaxKeys": 1}
            find = partial(account.find, "s3", "list_objects_v2", ("NoSuchBucket",), **by)
            page = result.attempt(lambda: (find(),))  # noqa: B023
            there = page and any(each["Key"] == found["key"] for each in (page[0] or {}).get("Contents", ()))
            if page and not there:
                why = f"{name} cannot start again: there is no file {written}"
                result.wrong(why)
    return result


#: States of a file system that can be mounted.
_MOUNTED = ("available", "updating", "creating")
_NO_FILES = ("FileSystemNotFound", "AccessPointNotFound")


def without_volumes(account: AwsAccount, tasks: Mapping[str, TaskDefinition]) -> Examined:
    """The tasks that cannot start because EFS lacks what they mount, by the services' names."""
    result = Examined()
    for name, task in tasks.items():
        mounted = {one for box in task.containers for one in box.mounts}
        for files, point in {of for volume, of in task.volumes.items() if volume in mounted}:
            why = result.attempt(_unmounted, account, files, point)
            if why:
                result.wrong(f"{name} cannot start again: {why}")
    return result


def _unmounted(account: AwsAccount, files: str, point: str) -> str:
    """Why a file system cannot be mounted at an access point, if it is given; empty if it can."""
    answer = account.find("efs", "describe_file_systems", _NO_FILES, FileSystemId=files)
    if answer is None:
        return f"the file system {files} does not exist"
    state = answer["FileSystems"][0]["LifeCycleState"]
    if state not in _MOUNTED:
        return f"the file system {files} is {state}"
    if not account.ask("efs", "describe_mount_targets", FileSystemId=files)["MountTargets"]:
        return f"the file system {files} has no mount target"
    by = partial(account.find, "efs", "describe_access_points", _NO_FILES)
    there = not point or (by(AccessPointId=point) or {}).get("AccessPoints")
    return "" if there else f"the file system {files} has no access point {point}"


_SCALING, _NAMESPACE, _COUNT = "application-autoscaling", "ecs", "ecs:service:DesiredCount"

#: The answer of a custom endpoint that does not implement it.
_UNKNOWN = ("InvalidAction", "UnknownOperationException")


def read_scalable(account: AwsAccount, names: Names) -> dict[str, Mapping[str, Any]]:
    """The targets of Application Auto Scaling that are services of the cluster, by short name."""
    found = account.pages(
        _SCALING, "describe_scalable_targets", "ScalableTargets", absent=_UNKNOWN, ServiceNamespace=_NAMESPACE
    )
    start = f"service/{names.cluster}/"
    return {
        names.short(each["ResourceId"].removeprefix(start)): each
        for each in found
        if each["ResourceId"].startswith(start) and each.get("ScalableDimension") == _COUNT
    }


def left_without_tasks(account: AwsAccount, target: Mapping[str, Any], *, called: bool = True) -> str:
    """Why a service ends up without tasks; empty if nothing is known to cause that.

    A service that is not `called` by others may have no task while it has nothing to do.
    """
    if target["MaxCapacity"] < 1:
        return f"it can be scaled to at most {target['MaxCapacity']}"
    suspended = target.get("SuspendedState", {})
    of = {"ServiceNamespace": _NAMESPACE, "ResourceId": target["ResourceId"]}
    if called and not target.get("MinCapacity", 1) and not suspended.get("DynamicScalingInSuspended"):
        policies = account.pages(_SCALING, "describe_scaling_policies", "ScalingPolicies", **of)
        if names := " and ".join(each["PolicyName"] for each in policies if _may_end(each)):
            return f"{names} may scale it to zero, although other services or the public call it"
    if suspended.get("ScheduledScalingSuspended"):
        return ""
    actions = account.pages(_SCALING, "describe_scheduled_actions", "ScheduledActions", **of)
    names = " and ".join(each["ScheduledActionName"] for each in _ending(actions, datetime.now(UTC)))
    return f"the scheduled action {names} scales it to zero, and none scales it up again" if names else ""


def _may_end(policy: Mapping[str, Any]) -> bool:
    """Whether a step of a scaling policy removes the last task.

    A policy that tracks a metric only removes tasks while it has data of them; so it is not evaluated.
    """
    config = policy.get("StepScalingPolicyConfiguration", {})
    steps = [each["ScalingAdjustment"] for each in config.get("StepAdjustments", ())]
    return 0 in steps if config.get("AdjustmentType") == "ExactCapacity" else any(each < 0 for each in steps)


def _ending(actions: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Mapping[str, Any]]:
    """The scheduled actions that leave no task; none if another one starts tasks again, as in the morning."""
    due = [each for each in actions if each.get("EndTime", now) >= now and not _is_past(each, now)]
    most = [each.get("ScalableTargetAction", {}).get("MaxCapacity") for each in due]
    if not any(each for each in most):
        yield from (each for each, left in zip(due, most, strict=True) if left == 0)


def _is_past(action: Mapping[str, Any], now: datetime) -> bool:
    """Whether a one-time action, `at(2026-02-26T10:00:00)`, is in the past."""
    once = re.fullmatch(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)", str(action.get("Schedule", "")))
    with suppress(ValueError, ZoneInfoNotFoundError):
        zone = ZoneInfo(action.get("Timezone") or "UTC")
        return once is not None and datetime.fromisoformat(once[1]).replace(tzinfo=zone) < now
    return False
