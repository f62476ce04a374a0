"""Images, inventory, migrations, tasks: decisions on given data, without calls."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from smoke.aws.balancer import (
    BalancerRoute,
)
from smoke.aws.ecs import EcsDeployment, definition_of, repository_of, service_of
from smoke.aws.ecs_tasks import RunningTask, TaskRun, failure_of, last_of
from smoke.aws.inventory import (
    ObservedService,
    agree,
    columns,
    differences,
    is_commit,
    is_pinned,
    known_port,
    leftover,
    misnamed,
    same_image,
    seen_of,
    strays,
    tag_of,
    unserving,
)
from smoke.aws.names import Names
from tests.smoke.aws.fakes import NOON, UNDER_WAY, definition, service

ECR = "1.dkr.ecr.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        (f"{ECR}/p-api:0123abc", "p-api", "0123abc"),
        (f"{ECR}/team/p-api:latest", "team/p-api", "latest"),
        ("localhost:5000/p-api", "p-api", ""),
        ("edoburu/pgbouncer:1.21.0", "edoburu/pgbouncer", "1.21.0"),
        ("pgbouncer", "pgbouncer", ""),
        (f"{ECR}/p-api@sha256:{'a' * 64}", "p-api", ""),
    ],
)
def test_parts_of_an_image(image: str, repository: str, tag: str) -> None:
    assert (repository_of(image), tag_of(image)) == (repository, tag)


@pytest.mark.parametrize(
    ("tag", "commit", "pinned"),
    [
        ("0123abc", True, True),
        ("a" * 40, True, True),
        ("a" * 41, False, False),
        ("012abc", False, False),
        ("0123ABC", True, True),
        ("latest", False, False),
        ("staging", False, False),
        ("v1.2.3", False, True),
        ("1.21.0-p1", False, True),
        ("2024", False, False),
        ("20240115", False, True),
        ("1234567", False, True),
    ],
)
def test_pinned_tags_are_recognised(tag: str, commit: bool, pinned: bool) -> None:
    assert (is_commit(f"x:{tag}"), is_pinned(f"x:{tag}")) == (commit, pinned)


@pytest.mark.parametrize(
    ("tag", "build", "commit"),
    [
        ("20240115", "", False),
        ("20240115", "0123abc", False),
        ("20240115", "20240115ab", True),
        ("0123abc", "", True),
        ("0123abc", "fffffff", True),
    ],
)
def test_digits_are_a_commit_where_the_build_agrees(tag: str, build: str, commit: bool) -> None:
    assert is_commit(f"x:{tag}", build) is commit


A, B = f"@sha256:{'a' * 64}", f"@sha256:{'b' * 64}"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("r/p:1", "r/p:1", True),
        ("r/p:1", "r/p:2", False),
        ("r/p:1", "r/q:1", False),
        ("r/p:0123abc", "r/p:0123ABCdef", True),
        ("r/p:0123abc", "r/p:0123abd", False),
        (f"r/p{A}", f"r/p{A}", True),
        (f"r/p{A}", f"r/p{B}", False),
        (f"r/p:1{A}", f"r/p:2{A}", True),
        (f"r/p:1{A}", f"r/p:1{B}", False),
        (f"r/p:1{A}", "r/p:1", True),
        (f"r/p{A}", "r/p:1", None),
        ("r/p:1", "r/p", None),
        ("r/p", "r/p", True),
    ],
)
def test_two_images_are_one_as_far_as_tag_and_digest_say(first: str, second: str, same: bool | None) -> None:
    assert same_image(first, second) is same
    assert same_image(second, first) is same


SET = {
    "status": "PRIMARY", "stabilityStatus": "STEADY_STATE", "createdAt": NOON, "taskDefinition": "p-x:2",
    "loadBalancers": [{"targetGroupArn": "green"}],
    "networkConfiguration": {"awsvpcConfiguration": {"securityGroups": ["sg-set"]}},
}  # fmt: skip
OVER = {"status": "PRIMARY", "rolloutState": "COMPLETED", "createdAt": NOON}
COUNTS = {"serviceName": "p-x", "desiredCount": 1, "runningCount": 1}
OLD = {**SET, "status": "DRAINING", "taskDefinition": "p-x:1"}
PLAIN = {**COUNTS, "taskDefinition": "p-x:1", "loadBalancers": [{"targetGroupArn": "blue"}]}


def controlled(type_: str) -> dict[str, Any]:
    return {"deploymentController": {"type": type_}}


@pytest.mark.parametrize(
    ("record", "settled", "definition", "groups"),
    [
        ({**PLAIN, **controlled("CODE_DEPLOY"), "taskSets": [SET]}, True, "p-x:2", ("green",)),
        ({**PLAIN, **controlled("CODE_DEPLOY"), "taskSets": [OLD, SET]}, False, "p-x:2", ("green",)),
        ({**PLAIN, **controlled("CODE_DEPLOY")}, False, "p-x:1", ("blue",)),
        ({**COUNTS, **controlled("EXTERNAL"), "taskSets": [SET]}, True, "p-x:2", ("green",)),
        ({**COUNTS, **controlled("EXTERNAL"), "taskSets": [{**SET, "stabilityStatus": "STABILIZING"}]},
         False, "p-x:2", ("green",)),
        ({**COUNTS, **controlled("EXTERNAL")}, False, "", ()),
        ({**PLAIN, "schedulingStrategy": "DAEMON", "deployments": [OVER]}, True, "p-x:1", ("blue",)),
        # behind a classic load balancer ECS tells no state of the rollout
        ({**PLAIN, "deployments": [{**OVER, "rolloutState": None, "desiredCount": 1, "runningCount": 1}]},
         True, "p-x:1", ("blue",)),
        ({**PLAIN, "deployments": [{**OVER, "rolloutState": None, "desiredCount": 2, "runningCount": 1}]},
         False, "p-x:1", ("blue",)),
        ({**PLAIN, "deployments": [OVER], "loadBalancers": [
            {"targetGroupArn": "a", "advancedConfiguration": {"alternateTargetGroupArn": "b"}},
            {"targetGroupArn": "c"}, {"loadBalancerName": "classic"}]},
         True, "p-x:1", ("a", "c", "b")),
    ],
)  # fmt: skip
def test_every_kind_of_deployment_is_read(
    record: dict[str, Any], settled: bool, definition: str, groups: tuple[str, ...]
) -> None:
    found = service_of(record, Names("p"))
    under_way = [f"{each.status} {each.rollout}" for each in found.deployments]
    assert (under_way == found.settled) is settled
    assert (found.definition, found.target_groups) == (definition, groups)
    assert found.security_groups == (("sg-set",) if "taskSets" in record else ())


def test_an_image_without_a_tag_is_the_newest_unless_a_digest_says_which() -> None:
    assert not is_pinned("edoburu/pgbouncer")
    assert is_pinned(f"edoburu/pgbouncer@sha256:{'a' * 64}")


@pytest.mark.parametrize(
    ("tag", "build", "same"),
    [
        ("0123abc", "0123abcdef", True),
        ("0123abcdef", "0123ABC", True),
        ("0123abc", "0123abd", False),
    ],
)
def test_a_tag_and_a_build_agree_when_one_begins_the_other(tag: str, build: str, same: bool) -> None:
    assert agree(tag, build) is same
    assert not agree("", build)
    assert not agree(tag, "")


DECLARED = {"cpu": 256, "memory": 512, "image": "p-api", "url": "api.example"}


@pytest.mark.parametrize(
    ("seen", "different"),
    [
        (ObservedService(256, 512, "p-api", ("www.example", "api.example")), []),
        (
            ObservedService(512, 512, "p-api", ("api.example:3000",)),
            ["cpu: runs 512, declared 256 CPU units"],
        ),
        (ObservedService(256, 512, "p-web", ("api.example",)), ["image: runs p-web, declared p-api"]),
        (
            ObservedService(256, 512, "p-api", ("www.example",)),
            ["url: runs www.example, declared api.example"],
        ),
        (
            ObservedService(256, 0, "p-api", ()),
            ["memory: runs nothing, declared 512 MiB", "url: runs nothing, declared api.example"],
        ),
    ],
)
def test_differences_from_the_inventory(seen: ObservedService, different: list[str]) -> None:
    assert differences(columns(DECLARED, seen)) == different


def test_what_the_plan_leaves_open_is_shown_and_not_compared() -> None:
    declared = {"cpu": 0, "memory": 0, "image": "", "url": ""}
    compared = columns(declared, ObservedService(256, 512, "p-api", ("api.example",)))
    assert differences(compared) == []
    assert [seen for _, seen in compared.values()] == [256, 512, "p-api", "api.example"]


def test_a_declared_port_must_be_the_one_that_runs() -> None:
    seen = ObservedService(0, 0, "", ("finn.p.local:3000",))
    assert differences(columns({**DECLARED, "url": "finn.p.local:3000"}, seen))[-1].startswith("image")
    assert differences(columns({**DECLARED, "url": "finn.p.local"}, seen))[-1].startswith("image")
    assert differences(columns({**DECLARED, "url": "finn.p.local:3001"}, seen))[-1].startswith("url")


def test_a_service_is_seen_by_its_own_container_and_all_its_addresses() -> None:
    running = service("api", target_groups=("tg",), registries=("registry", "unknown"))
    routes = [BalancerRoute("tg", "lb", ("api.example",)), BalancerRoute("other", "lb", ("x",))]
    found = seen_of(running, definition("api"), routes, {"registry": "freeside.p.local"})
    assert found == ObservedService(256, 512, "p-api", ("api.example", "freeside.p.local:3000"))
    assert seen_of(service("worker"), definition("worker", ports=()), routes, {}).addresses == ()


def run(status: str = "STOPPED", **codes: int | None) -> TaskRun:
    return TaskRun(status, NOON, "why", codes)


IMAGE, OTHER = f"{ECR}/p-api:0123abc", f"{ECR}/p-api:fedcba9"


def task(name: str = "t1", revision: str = "p-api:1", health: str = "UNKNOWN", **images: str) -> RunningTask:
    return RunningTask(name, revision, health, images or {"api": IMAGE})


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        ([], []),
        ([task()], []),
        ([task(health="HEALTHY"), task("t2", health="UNHEALTHY")], []),  # that one is being replaced
        ([task(api=IMAGE, envoy="public.ecr.aws/appmesh/envoy:v1")], []),  # ECS adds it by itself
        ([task(api=f"{IMAGE}@sha256:{'a' * 64}")], []),  # ECS resolved the tag
        ([task(revision="p-api:0")], ["task t1 runs p-api:0, but p-api:1 is deployed"]),
        ([task(), task("t2", revision="p-old:7")], ["task t2 runs p-old:7, but p-api:1 is deployed"]),
        ([task(api=OTHER)], [f"api of task t1 runs {OTHER}, but {IMAGE} is deployed"]),
        ([task(health="UNHEALTHY")], ["no task passes its own health check: t1"]),
    ],
)  # fmt: skip
def test_what_runs_is_what_is_deployed(tasks: list[RunningTask], why: list[str]) -> None:
    deployed = service("api", definition="arn:aws:ecs:us-east-1:1:task-definition/p-api:1")
    assert strays(deployed, definition("api"), tasks) == why


@pytest.mark.parametrize(
    ("changed", "moving"),
    [
        ({"desired": 3, "pending": 2}, True),
        ({"desired": 3, "pending": 0}, True),  # between the end of a task and the start of the next
        ({"desired": 1, "running": 2}, True),
        ({"desired": 3, "pending": 2, "deployments": UNDER_WAY}, True),
        ({"deployments": UNDER_WAY}, True),
        ({"deployments": (*UNDER_WAY, EcsDeployment("ACTIVE", "COMPLETED", NOON))}, True),
        ({"desired": 0, "running": 1}, False),
        ({"running": 0, "deployments": (EcsDeployment("PRIMARY", "FAILED", NOON),)}, False),
        ({"deployments": ()}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_a_service_that_is_still_deploying_gets_time(changed: dict[str, Any], moving: bool) -> None:
    assert service("api", **changed).is_moving is moving


@pytest.mark.parametrize(
    ("last", "failure"),
    [
        (run(migration=0), ""),
        (run(migration=0, sidecar=0), ""),
        (run(migration=1), "the last run ended with migration 1 (why)"),
        (run(migration=0, sidecar=137), "the last run ended with sidecar 137 (why)"),
        (run(migration=None), "the last run ended with migration without an exit code (why)"),
        (run(), "the last run had no container"),
        (run("RUNNING", migration=0), "the last run is RUNNING, not stopped"),
        (run("DEPROVISIONING", migration=0), "the last run is DEPROVISIONING, not stopped"),
        (run("PENDING", migration=None), "the last run is PENDING, not stopped"),
    ],
)
def test_a_migration_succeeded_when_it_stopped_with_nothing_but_zeros(last: TaskRun, failure: str) -> None:
    assert failure_of(last) == failure


def test_a_non_essential_container_says_nothing_about_a_migration() -> None:
    beside = {"name": "logs", "image": "l", "essential": False, "logConfiguration": {"options": None}}
    boxes = [{"name": "migration", "image": "m"}, beside]
    described = {"family": "f", "status": "ACTIVE", "containerDefinitions": boxes}
    definition = definition_of(described)
    assert failure_of(run(migration=0, logs=137), definition) == ""
    assert failure_of(run(migration=137, logs=0), definition) == "the last run ended with migration 137 (why)"


def test_the_last_run_counts() -> None:
    assert last_of([run(migration=1), run(migration=0)]) == run(migration=0)
    assert last_of([]) is None


def test_a_service_without_a_network_and_a_definition_without_roles() -> None:
    seen = service_of(
        {"serviceName": "p-x", "desiredCount": 1, "runningCount": 0, "taskDefinition": "t"}, Names("p")
    )
    assert (seen.name, seen.running, seen.deployed_at, seen.security_groups) == ("x", 0, None, ())
    found = definition_of({"family": "p-x", "containerDefinitions": [{"name": "a", "image": "i"}]})
    assert (found.active, found.cpu, found.execution_role, found.task_role) == (False, 0, "", "")
    assert (found.main("x").name, found.main("a").log_group) == ("a", "")


def test_a_definition_without_a_size_has_that_of_its_containers_and_firelens_names_its_group() -> None:
    logs = {"logDriver": "awsfirelens", "options": {"Name": "cloudwatch", "log_group_name": "/ecs/p/x"}}
    boxes: list[dict[str, Any]] = [
        {"name": "x", "image": "i", "cpu": 256, "memory": 512, "logConfiguration": logs},
        {"name": "logs", "image": "i", "cpu": 64, "memoryReservation": 128, "memory": 256},
    ]
    boxes[1]["mountPoints"] = [{"containerPath": "/tmp"}]
    found = definition_of({"family": "p-x", "containerDefinitions": boxes})
    assert (found.cpu, found.memory, found.main("x").log_group) == (320, 640, "/ecs/p/x")


@pytest.mark.parametrize(
    ("service", "own"),
    [
        ("x", {"name": "x", "image": "elsewhere/x:1"}),
        ("x", {"name": "app", "image": "1.dkr.ecr.us-east-1.amazonaws.com/p-x:0a1b"}),
        ("x", {"name": "app", "image": "p-x@sha256:0a"}),
        ("x-migration", {"name": "migration", "image": "p-api:0a1b"}),
        ("x", {"name": "app", "image": "i"}),
    ],
)
def test_a_sidecar_that_comes_first_is_not_the_service(service: str, own: dict[str, Any]) -> None:
    beside = [
        {"name": "router", "image": "fluent-bit:2", "essential": True, "firelensConfiguration": {}},
        {"name": "agent", "image": "agent:7", "essential": False},
    ]
    described = {"family": f"p-{service}", "containerDefinitions": [*beside, own]}
    assert definition_of(described).main(service).name == own["name"]


@pytest.mark.parametrize(
    ("registries", "wrong"),
    [
        ({"finn": ("f",), "dixie": ("d",), "worker": ()}, []),
        ({"finn": ("f", "other"), "tools": ("f",)}, []),
        ({"finn": ()}, []),
        ({"finn": ("f",), "worker": ("f",)}, ["worker is registered as finn.p.local, the name of finn"]),
        ({"finn": ("d",)}, ["finn is registered as dixie.p.local, not as finn.p.local"]),
    ],
)
def test_a_name_in_cloud_map_is_one_services(
    registries: dict[str, tuple[str, ...]], wrong: list[str]
) -> None:
    known = {"f": "finn.p.local", "d": "dixie.p.local", "other": "agents.p.local"}
    services = {name: service(name, registries=arns) for name, arns in registries.items()}
    assert misnamed(services, known, "finn", "finn.p.local") == wrong


@pytest.mark.parametrize(
    ("running", "desired", "deployments", "others", "addresses", "left"),
    [
        (1, 1, 1, 0, ["a:1"], False),
        (1, 1, 1, 0, ["a:1", "b:1"], True),
        (3, 3, 1, 0, ["a:1"], False),
        (1, 1, 1, 0, ["a:1", "a:1"], False),
        (1, 1, 2, 0, ["a:1", "b:1"], False),
        (1, 2, 1, 0, ["a:1", "b:1", "c:1"], False),
        (1, 1, 1, 1, ["a:1", "b:1"], False),
        (0, 0, 1, 0, ["a:1"], False),
    ],
)
def test_a_name_has_no_address_beyond_the_tasks(
    running: int, desired: int, deployments: int, others: int, addresses: list[str], left: bool
) -> None:
    one = EcsDeployment("PRIMARY", "COMPLETED", datetime(2026, 1, 1, tzinfo=UTC))
    given: dict[str, Any] = {"deployments": (one,) * deployments, "registries": ("f",)}
    services = {
        "finn": replace(service("finn"), running=running, desired=desired, **given),
        "canary": replace(service("canary"), running=others, desired=others, **given),
    }
    assert bool(leftover(services, {"f": "finn.p.local"}, "finn.p.local", addresses)) == left


@pytest.mark.parametrize(
    ("address", "of_tasks", "left"),
    [
        ("10.0.0.1:3000", {"10.0.0.1"}, False),
        ("10.0.0.2:3000", {"10.0.0.1"}, True),
        ("10.0.0.2", {"10.0.0.1"}, True),
        ("10.0.0.2", None, False),
        ("internal-finn.elb.amazonaws.com", {"10.0.0.1"}, False),
        ("2600:1f14::1:3000", {"10.0.0.1"}, False),
    ],
)
def test_a_name_leads_to_its_own_tasks(address: str, of_tasks: Any, left: bool) -> None:
    services = {"finn": service("finn", registries=("f",))}
    found = leftover(services, {"f": "finn.p.local"}, "finn.p.local", [address], lambda _: of_tasks)
    assert bool(found) is left


def test_a_name_of_no_service_says_nothing_about_tasks() -> None:
    assert not leftover({"finn": service("finn")}, {}, "finn.p.local", ["a", "b"])


def test_the_plan_goes_before_the_contract_where_it_names_a_port() -> None:
    rows = [("finn", "finn.p.local:4000"), ("dixie", "dixie.example"), ("worker", "")]
    assert [known_port({"ecs": name, "url": url}) for name, url in rows] == [4000, 3001, 0]


ROLLING = {"minimumHealthyPercent": 50, "maximumPercent": 100}


@pytest.mark.parametrize(
    ("told", "healthy"),
    [
        ({}, (100, 200)),
        ({"deploymentConfiguration": ROLLING}, (50, 100)),
        ({"deploymentConfiguration": ROLLING, "schedulingStrategy": "DAEMON"}, None),
        ({"deploymentConfiguration": {**ROLLING, "strategy": "BLUE_GREEN"}}, None),
        ({"deploymentConfiguration": ROLLING, "deploymentController": {"type": "CODE_DEPLOY"}}, None),
    ],
)
def test_only_a_rolling_deployment_has_bounds(told: dict[str, Any], healthy: tuple[int, int] | None) -> None:
    assert service_of({"serviceName": "p-finn", **told}, Names("p")).healthy == healthy


@pytest.mark.parametrize(
    ("alias", "more", "namespace", "address"),
    [
        ({"dnsName": "finn"}, {}, "p.local", "finn:80"),
        ({}, {}, "q.local", "http.q.local:80"),
        (
            {},
            {"discoveryName": "finn"},
            "arn:aws:servicediscovery:us-east-1:1:namespace/ns-1",
            "finn.p.local:80",
        ),
    ],
)
def test_the_addresses_of_service_connect_are_known(
    alias: dict[str, str], more: dict[str, str], namespace: str, address: str
) -> None:
    offered = [{"portName": "http", "clientAliases": [{"port": 80, **alias}], **more}]
    connect = {"namespace": namespace, "services": offered}
    deployment = {"status": "PRIMARY", "createdAt": datetime.now(UTC), "serviceConnectConfiguration": connect}
    found = service_of({"serviceName": "p-finn", "deployments": [deployment]}, Names("p"))
    assert found.aliases == (address,)


@pytest.mark.parametrize(
    ("limits", "wasted"),
    [
        ((128,), True),
        ((512,), False),
        ((900,), False),
        ((256, 256), False),
        ((256, 128), True),
        ((0, 128), False),
    ],
)
def test_containers_that_are_ended_before_half_of_the_task_waste_it(
    limits: tuple[int, ...], wasted: bool
) -> None:
    boxes = [{"name": f"box-{n}", "image": "i", **({"memory": n} if n else {})} for n in limits]
    found = definition_of({"family": "p-x", "memory": "1024", "containerDefinitions": boxes})
    assert found.wasted is wasted


def test_how_long_failed_health_checks_of_a_new_task_are_ignored() -> None:
    assert service_of({"serviceName": "p-finn"}, Names("p")).grace == 0
    assert service_of({"serviceName": "p-finn", "healthCheckGracePeriodSeconds": 90}, Names("p")).grace == 90


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({}, ""),
        ({"runs": ("node", "server.js")}, ""),
        ({"runs": ("sh", "-c", "echo starting && exec node server.js")}, ""),
        ({"runs": ("sh", "-c", "echo starting\nexec node server.js")}, ""),
        ({"runs": ("sh", "-c", "echo $(node server.js)")}, ""),
        ({"runs": ("sh", "-c", "echo ready")}, "serves nothing"),
        ({"runs": ("sh", "-c", "exit 0")}, "serves nothing"),
        ({"runs": ("/bin/sh", "-ec", "exec sleep infinity")}, "serves nothing"),
        ({"runs": ("true",)}, "serves nothing"),
        ({"runs": ("--help",)}, "serves nothing"),
        ({"runs": ("--config", "help.json")}, ""),
        ({"asks": ("CMD-SHELL", "exit 1")}, "always fails"),
        ({"asks": ("CMD", "/bin/false")}, "always fails"),
        ({"asks": ("CMD-SHELL", "curl -f http://localhost:3000/health || exit 1")}, ""),
        ({"asks": ("CMD-SHELL", "curl -f http://localhost:9999/health || exit 1")}, "on port 9999"),
        ({"asks": ("CMD-SHELL", "curl -f http://localhost/health")}, "on port 80"),
        ({"asks": ("CMD-SHELL", "wget http://localhost:1/health || wget http://localhost:3000/health")}, ""),
        ({"asks": ("CMD-SHELL", "curl -f http://localhost:9999/admin/ready")}, ""),  # its own port
        ({"asks": ("CMD-SHELL", "curl -f http://localhost:9999/health"), "ports": ()}, ""),
    ],
)  # fmt: skip
def test_a_task_serves(made: dict[str, Any], why: str) -> None:
    task = definition("finn")
    (box,) = task.containers
    found = [*unserving(service("finn"), replace(task, containers=(replace(box, **made),)), "/health")]
    assert len(found) == bool(why)
    assert all(why in each for each in found)


@pytest.mark.parametrize(
    ("balanced", "ports", "wrong"),
    [
        ((), (3000,), False),
        ((("finn", 3000),), (3000,), False),
        ((("finn", 8080),), (), False),
        ((("finn", 8080),), (3000,), True),
        ((("web", 3000),), (3000,), True),
    ],
)
def test_target_groups_get_a_port_of_the_task(
    balanced: tuple[tuple[str, int], ...], ports: tuple[int, ...], wrong: bool
) -> None:
    found = unserving(replace(service("finn"), balanced=balanced), definition("finn", ports=ports), "/health")
    assert ["which its task does not map" in each for each in found] == [True] * wrong
