"""ECS services: their task definitions, and whether ECR still has their images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from smoke.source.checkout import Examined
from smoke.source.infrastructure.definitions import plain_ports
from smoke.source.pipeline.rollback import lost
from smoke.source.terraform.hcl import Place
from smoke.source.terraform.values import Value

from .account import AwsAccount, at_once
from .names import Names

SERVICES_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class EcsDeployment:
    """One deployment of a service, or one of its task sets; PRIMARY is the wanted one.

    `rollout` is the state of its rollout; for a task set, its stability.
    """

    status: str
    rollout: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EcsService:
    """An active service. `name` is without the platform's prefix; groups and registries are ids and ARNs.

    `controller` deploys it: ECS itself, CODE_DEPLOY or EXTERNAL; the latter two use task sets. `healthy` are
    the minimum and maximum percent of its tasks during a rolling deployment, None without one. `aliases` are
    its Service Connect addresses, HOST:PORT. The tasks of a `public` service have public addresses. ECS
    ignores failed health checks for the first `grace` seconds of a task. `balanced` are the containers, and
    their ports, that it registers with its target groups.
    """

    name: str
    desired: int
    running: int
    deployments: tuple[EcsDeployment, ...]
    definition: str
    security_groups: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    target_groups: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    controller: str = "ECS"
    healthy: tuple[float, float] | None = None
    aliases: tuple[str, ...] = ()
    pending: int = 0
    public: bool = False
    grace: int = 0
    balanced: tuple[tuple[str, int], ...] = ()

    @property
    def is_moving(self) -> bool:
        """Whether tasks start or stop, or a deployment is in progress, which may soon be over."""
        failed = any(each.rollout == "FAILED" for each in self.deployments)
        still = self.is_settled and self.running == self.desired
        return self.desired > 0 and bool(self.deployments) and not failed and not still

    def __str__(self) -> str:
        """How many of its tasks run, and the state of its deployments."""
        state = ", ".join(f"{each.status} {each.rollout}" for each in self.deployments) or "none"
        return f"{self.running} of {self.desired} tasks run, {self.pending} are pending; deployments: {state}"

    @property
    def is_settled(self) -> bool:
        """Whether no deployment is in progress."""
        return [f"{each.status} {each.rollout}" for each in self.deployments] == self.settled

    @property
    def settled(self) -> list[str]:
        """The deployments of a service without one in progress."""
        return ["PRIMARY COMPLETED" if self.controller == "ECS" else "PRIMARY STEADY_STATE"]

    @property
    def deployed_at(self) -> datetime | None:
        """When the wanted deployment began."""
        return next((each.created_at for each in self.deployments if each.status == "PRIMARY"), None)


@dataclass(frozen=True, slots=True)
class ContainerDefinition:
    """One container of a task definition; `secrets` maps a variable to where its value comes from.

    `plain` are the ports that its health check calls by HTTP without TLS, `words` the words of its commands
    and labels; it `runs` a command, and `asks` with another whether it is healthy. `mounts` are names of
    volumes. If it `needs_log_group`, it does not start without the group, nor without the other references in
    `given`: credentials of its registry, secrets of its log driver. `files` names files with further
    variables. If it `keeps_digest`, a moved tag does not change what its service runs.
    """

    name: str
    image: str
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    log_group: str
    log_region: str
    ports: tuple[int, ...]
    essential: bool = True
    routes_logs: bool = False
    plain: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    needs_log_group: bool = False
    given: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    keeps_digest: bool = True

    @property
    def references(self) -> tuple[str, ...]:
        """Every secret and parameter that it needs to start."""
        return *self.secrets.values(), *self.given


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A task definition. `cpu` in CPU units, `memory` in MiB; roles are ARNs, empty if there is none.

    If it is not `active`, it was deregistered: running tasks continue, but no new task starts from it. On
    `fargate` it is started only with its execution role. `volumes` are its EFS volumes by name: each the ids
    of a file system and of an access point, the latter empty without one.
    """

    family: str
    active: bool
    cpu: int
    memory: int
    execution_role: str
    task_role: str
    containers: tuple[ContainerDefinition, ...]
    limit: int = 0
    fargate: bool = False
    volumes: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def wasted(self) -> bool:
        """Whether its containers' limits together are below half of its memory."""
        return 0 < self.limit < self.memory / 2

    def main(self, service: str) -> ContainerDefinition:
        """The container of the service itself: the one with its name, else the likeliest, else the first.

        A sidecar may stand before it: an agent that is not essential, a log router, an image from elsewhere.
        """

        def likelihood(box: ContainerDefinition) -> tuple[bool, ...]:
            own_image = re.split("[:@]", box.image.rpartition("/")[2])[0] == self.family
            needed = box.essential and not box.routes_logs
            return box.name == service, own_image, box.name in service.split("-"), needed

        return max(self.containers, key=likelihood)


def read_services(account: AwsAccount, names: Names) -> dict[str, EcsService]:
    """Every active service of the cluster by its short name."""
    arns = account.pages("ecs", "list_services", "serviceArns", cluster=names.cluster)
    batches = [arns[at : at + SERVICES_AT_ONCE] for at in range(0, len(arns), SERVICES_AT_ONCE)]
    answers = at_once(
        lambda batch: account.ask("ecs", "describe_services", cluster=names.cluster, services=batch), batches
    )
    found = [
        service_of(described, names)
        for answer in answers
        for described in answer["services"]
        if described["status"] == "ACTIVE"
    ]
    return {service.name: service for service in found}


def has_insights(account: AwsAccount, names: Names) -> bool:
    """Whether the cluster counts its tasks for CloudWatch; False only if Container Insights is off."""
    found = account.ask("ecs", "describe_clusters", clusters=[names.cluster], include=["SETTINGS"])
    settings = {each["name"]: each["value"] for cluster in found["clusters"]
                for each in cluster.get("settings", ())}  # fmt: skip
    return settings.get("containerInsights") != "disabled"


def read_definitions(account: AwsAccount, references: Iterable[str]) -> dict[str, TaskDefinition]:
    """Task definitions by the requested family or ARN, without those that do not exist."""

    def read(reference: str) -> dict[str, Any] | None:
        return account.find("ecs", "describe_task_definition", ("ClientException",), taskDefinition=reference)

    wanted = list(dict.fromkeys(references))
    answers = at_once(read, wanted)
    return {
        reference: definition_of(answer["taskDefinition"])
        for reference, answer in zip(wanted, answers, strict=True)
        if answer is not None
    }


def image_in_use(account: AwsAccount, names: Names, service: str) -> str:
    """The image that a service runs; empty if the cluster has no such service."""
    described = account.ask("ecs", "describe_services", cluster=names.cluster, services=[names.full(service)])
    found = [service_of(each, names) for each in described["services"] if each["status"] == "ACTIVE"]
    definitions = read_definitions(account, [each.definition for each in found if each.definition])
    return next((each.main(service).image for each in definitions.values()), "")


def service_of(described: Mapping[str, Any], names: Names) -> EcsService:
    """A service from DescribeServices; if ECS itself does not deploy it, its primary task set counts."""
    controller = described.get("deploymentController", {}).get("type", "ECS")
    sets = described.get("taskSets", ()) if controller != "ECS" else ()
    primary: Mapping[str, Any] = next((each for each in sets if each["status"] == "PRIMARY"), {})

    def running(key: str) -> Any:
        return primary.get(key) or described.get(key) or {}

    balancers = running("loadBalancers")
    groups = [each.get("targetGroupArn") for each in balancers]
    groups += [each.get("advancedConfiguration", {}).get("alternateTargetGroupArn") for each in balancers]
    network = running("networkConfiguration").get("awsvpcConfiguration", {})
    return EcsService(
        name=names.short(described["serviceName"]),
        desired=int(described.get("desiredCount", 0)),
        running=int(described.get("runningCount", 0)),
        deployments=tuple(
            EcsDeployment(
                each["status"],
                each.get("rolloutState") or each.get("stabilityStatus") or _rollout(each),
                each["createdAt"],
            )
            for each in (sets if controller != "ECS" else described.get("deployments", ()))
        ),
        definition=running("taskDefinition") or "",
        security_groups=tuple(network.get("securityGroups", ())),
        subnets=tuple(network.get("subnets", ())),
        target_groups=tuple(filter(None, groups)),
        registries=tuple(
            each["registryArn"] for each in running("serviceRegistries") if "registryArn" in each
        ),
        controller=controller,
        healthy=_healthy(described) if controller == "ECS" else None,
        aliases=tuple(
            each
            for deployment in described.get("deployments", ())
            for each in _aliases(deployment.get("serviceConnectConfiguration") or {}, names.namespace)
        ),
        pending=int(described.get("pendingCount", 0)),
        public=network.get("assignPublicIp") == "ENABLED",
        grace=int(described.get("healthCheckGracePeriodSeconds", 0)),
        balanced=tuple((each["containerName"], int(each["containerPort"])) for each in balancers
                       if {"containerName", "containerPort"} <= each.keys()),
    )  # fmt: skip


def _aliases(connect: Mapping[str, Any], own: str) -> Iterator[str]:
    """HOST:PORT of each Service Connect alias; without a DNS name it is a name in the namespace."""
    declared = connect.get("namespace", "")
    namespace = own if not declared or declared.startswith("arn:") else declared
    for offered in connect.get("services", ()):
        name = f"{offered.get('discoveryName') or offered['portName']}.{namespace}"
        for alias in offered.get("clientAliases", ()):
            yield f"{alias.get('dnsName') or name}:{alias['port']}"


def _healthy(described: Mapping[str, Any]) -> tuple[float, float] | None:
    """The minimum and maximum percent of tasks during a rolling deployment of replicas."""
    deployment = described.get("deploymentConfiguration", {})
    rolling = deployment.get("strategy", "ROLLING") == "ROLLING"
    if not rolling or described.get("schedulingStrategy", "REPLICA") != "REPLICA":
        return None
    return float(deployment.get("minimumHealthyPercent", 100)), float(deployment.get("maximumPercent", 200))


def _rollout(deployment: Mapping[str, Any]) -> str:
    """The state of a deployment for which ECS reports none, such as behind a classic load balancer."""
    return "COMPLETED" if deployment.get("runningCount") == deployment.get("desiredCount") else "IN_PROGRESS"


def definition_of(described: Mapping[str, Any]) -> TaskDefinition:
    """A task definition from DescribeTaskDefinition; if it has no size, the sum of its containers' sizes."""
    boxes = described["containerDefinitions"]
    return TaskDefinition(
        family=described["family"],
        active=described.get("status") == "ACTIVE",
        cpu=int(described.get("cpu") or sum(each.get("cpu", 0) for each in boxes)),
        memory=int(
            described.get("memory")
            or sum(each.get("memoryReservation") or each.get("memory", 0) for each in boxes)
        ),
        execution_role=described.get("executionRoleArn") or "",
        task_role=described.get("taskRoleArn") or "",
        containers=tuple(_container(each) for each in boxes),
        limit=sum(each["memory"] for each in boxes) if all(each.get("memory") for each in boxes) else 0,
        fargate={*described.get("requiresCompatibilities", ())} == {"FARGATE"},
        volumes={
            each["name"]: (of["fileSystemId"], of.get("authorizationConfig", {}).get("accessPointId", ""))
            for each in described.get("volumes", ())
            if (of := each.get("efsVolumeConfiguration"))
        },
    )


def _container(described: Mapping[str, Any]) -> ContainerDefinition:
    logs = described.get("logConfiguration") or {}
    options = logs.get("options") or {}
    return ContainerDefinition(
        name=described["name"],
        image=described["image"],
        environment={each["name"]: each["value"] for each in described.get("environment", ())},
        secrets={each["name"]: each["valueFrom"] for each in described.get("secrets", ())},
        log_group=options.get("awslogs-group") or options.get("log_group_name", ""),  # the latter in FireLens
        log_region=options.get("awslogs-region", ""),
        ports=tuple(
            each["containerPort"] for each in described.get("portMappings", ()) if "containerPort" in each
        ),
        needs_log_group=logs.get("logDriver") == "awslogs" and options.get("awslogs-create-group") != "true",
        given=(
            *(each["valueFrom"] for each in logs.get("secretOptions") or ()),
            *(each for each in (described.get("repositoryCredentials") or {}).values() if ":secret:" in each),
        ),
        files=tuple(each["value"] for each in described.get("environmentFiles") or ()),
        runs=(*(described.get("entryPoint") or ()), *(described.get("command") or ())),
        asks=tuple(described.get("healthCheck", {}).get("command", ())),
        mounts=tuple(each.get("sourceVolume", "") for each in described.get("mountPoints") or ()),
        keeps_digest=described.get("versionConsistency") != "disabled",
        essential=described.get("essential", True),
        routes_logs="firelensConfiguration" in described,
        plain=tuple(sorted(plain_ports(described.get("healthCheck", {}).get("command", ())))),
        words=(
            *(described.get("entryPoint") or ()),
            *(described.get("command") or ()),
            *described.get("healthCheck", {}).get("command", ()),
            *(described.get("dockerLabels") or {}).values(),
        ),
    )


def repository_of(image: str) -> str:
    """The image's repository, without registry, tag and digest."""
    # the first part is a registry if it looks like a host
    name = re.sub(r"^[^/]*[.:][^/]*/", "", image.partition("@")[0])
    return re.sub(r":[^/]*$", "", name)


#: An image in a private ECR registry.
IN_ECR = re.compile(
    r"(?P<registry>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)/"
    r"(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>.+))?"
)
_NO_IMAGE = ("ImageNotFoundException", "RepositoryNotFoundException")


def images_there(account: AwsAccount, definition: TaskDefinition) -> Examined:
    """The images of a task that ECR no longer has; one in another region is not examined.

    Images of other registries are not looked up.
    """
    examined = Examined()
    for image in sorted({container.image for container in definition.containers}):
        found = IN_ECR.fullmatch(image)
        if found and found["region"] != account.region:
            examined.unclear(f"whether {image} exists: it is in {found['region']}")
        elif found:
            # an archived image cannot be pulled until it is restored
            usable = any(each.get("imageStatus") != "ARCHIVED" for each in describe_image(account, found))
            if not usable and not _is_fetched(account, found):
                examined.wrong(f"no replacement task can start: {image} is not in the registry")
    return examined


def expiring(account: AwsAccount, definition: TaskDefinition) -> Examined:
    """The repositories of a task's images whose lifecycle policies delete images while they are needed."""
    found = [IN_ECR.fullmatch(each.image) for each in definition.containers]
    here = {
        (each["registry"], each["repository"]): each
        for each in found
        if each and each["region"] == account.region
    }
    result = Examined()
    for (_, name), image in sorted(here.items()):
        answer = result.attempt(account.find, "ecr", "get_lifecycle_policy", _NO_LIFECYCLE, **_place(image))
        policy = Value((answer or {}).get("lifecyclePolicyText", "{}"), Place("", 0))
        wrong = [*lost(policy)]
        if wrong and result.attempt(_is_fetched, account, image) is False:
            for why in wrong:
                result.wrong(f"the lifecycle policy of {name} {why}")
    return result


_NO_LIFECYCLE = ("LifecyclePolicyNotFoundException", "RepositoryNotFoundException")


def describe_image(account: AwsAccount, image: re.Match[str], digest: str = "") -> list[Mapping[str, Any]]:
    """What ECR returns for an image, or for another `digest` in its repository; empty if it is gone."""
    by = digest or image["digest"]
    wanted = {"imageDigest": by} if by else {"imageTag": image["tag"] or "latest"}
    found = account.find("ecr", "describe_images", _NO_IMAGE, **_place(image), imageIds=[wanted])
    return list(found["imageDetails"]) if found else []


def policy_of(account: AwsAccount, image: re.Match[str]) -> str:
    """The policy of an image's repository; empty if it has none."""
    found = account.find("ecr", "get_repository_policy", _NO_POLICY, **_place(image))
    return str((found or {}).get("policyText", ""))


def _place(image: re.Match[str]) -> dict[str, str]:
    return {"registryId": image["registry"], "repositoryName": image["repository"]}


def key_of(account: AwsAccount, image: re.Match[str]) -> str:
    """The KMS key with which an image's repository is encrypted; empty if it has none."""
    place = {"registryId": image["registry"], "repositoryNames": [image["repository"]]}
    found = account.find("ecr", "describe_repositories", _NO_IMAGE, **place)
    encryption = [each.get("encryptionConfiguration", {}) for each in (found or {}).get("repositories", ())]
    return next((each.get("kmsKey", "") for each in encryption), "")


_NO_POLICY = ("RepositoryPolicyNotFoundException", "RepositoryNotFoundException")


def _is_fetched(account: AwsAccount, image: re.Match[str]) -> bool:
    """Whether ECR fetches an image from another registry when it is pulled."""
    rules = account.pages(
        "ecr",
        "describe_pull_through_cache_rules",
        "pullThroughCacheRules",
        absent=("InvalidAction",),  # a custom endpoint may not know it
        registryId=image["registry"],
    )
    prefixes = {each["ecrRepositoryPrefix"] for each in rules}
    return "ROOT" in prefixes or any(image["repository"].startswith(f"{each}/") for each in prefixes)
