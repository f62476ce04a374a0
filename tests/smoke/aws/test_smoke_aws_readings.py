"""Readings from AWS: once, concurrently where it helps, and again on request."""

import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_readiness import ExternalOutage, SetupError

from smoke.aws.alarms import Metric
from smoke.aws.ecs import image_in_use, read_definitions, read_services
from smoke.aws.ecs_tasks import RunningTask, read_running, read_runs
from smoke.aws.monitoring import (
    read_dashboard,
    read_datapoints,
)
from smoke.aws.names import Names, read_registries, resolve
from smoke.aws.reader import AwsReader
from smoke.aws.topics import topic_arn
from smoke.aws.zones import read_records
from smoke.platform import backends
from smoke.source.rules import of_another
from tests.smoke.aws.fakes import CPU, NOON, TOPIC_ARN, ecs_answers, raising, scripted, told_service

NAMES = Names("p")


def test_services_are_asked_for_ten_at_a_time_and_inactive_ones_left_out() -> None:
    account, client = scripted(**ecs_answers([*(f"p-{n}" for n in range(11)), "p-gone"]))
    found = read_services(account, NAMES)
    assert set(found) == {str(n) for n in range(11)}
    assert found["3"].target_groups == ("a:targetgroup/tg/1",)
    sizes = [len(asked["services"]) for method, asked in client.asked if method == "describe_services"]
    assert sorted(sizes) == [2, 10]


def test_a_definition_that_does_not_exist_is_left_out() -> None:
    account, _ = scripted(describe_task_definition=raising("ClientException"))
    assert read_definitions(account, ["p-x", "p-x"]) == {}


def test_runs_come_oldest_first_and_a_run_that_ecs_forgot_meanwhile_is_left_out() -> None:
    def task(arn: str, minutes: int) -> dict[str, Any]:
        moment = NOON + timedelta(minutes=minutes)
        return {"taskArn": arn, "lastStatus": "STOPPED", "createdAt": moment, "containers": []}

    account, _ = scripted(
        list_tasks=lambda desiredStatus, **_: {
            "taskArns": ["new", "old", "gone"] if desiredStatus == "STOPPED" else ["new"]
        },
        describe_tasks=lambda tasks, **_: {"tasks": [task("new", 5), task("old", 1)]},
    )
    assert [run.created_at.minute for run in read_runs(account, NAMES, "p-m")] == [1, 5]
    nothing, _ = scripted(list_tasks=lambda **_: {"taskArns": []})
    assert read_runs(nothing, NAMES, "p-m") == []


def test_the_tasks_that_run_are_those_that_started() -> None:
    def task(arn: str, status: str) -> dict[str, Any]:
        boxes = [{"name": "x", "image": "p-x:0123abc"}, {"name": "pause"}]
        revision = "arn:aws-us-gov:ecs:us-gov-west-1:1:task-definition/p-x:2"
        return {"taskArn": arn, "taskDefinitionArn": revision, "lastStatus": status, "containers": boxes}

    account, _ = scripted(
        list_tasks=lambda **_: {"taskArns": ["a:task/p-cluster/1", "a:task/p-cluster/2"]},
        describe_tasks=lambda tasks, **_: {"tasks": [task(tasks[0], "RUNNING"), task(tasks[1], "PENDING")]},
    )
    assert read_running(account, NAMES, "x") == [RunningTask("1", "p-x:2", "UNKNOWN", {"x": "p-x:0123abc"})]


def test_each_thing_is_read_once_and_again_after_forgetting() -> None:
    account, client = scripted(**ecs_answers(["p-api", "p-finn"]))
    observed = AwsReader(account, NAMES)
    for _ in range(3):
        assert observed.definition("api").family == "p-api"
    count = Counter(method for method, _ in client.asked)
    assert count == {
        "describe_clusters": 1, "list_services": 1, "describe_services": 1, "describe_task_definition": 2
    }  # fmt: skip
    observed.forget()
    observed.services()
    assert Counter(method for method, _ in client.asked)["describe_services"] == 2
    with pytest.raises(AssertionError, match="the cluster p-cluster has no active service p-dixie"):
        observed.definition("dixie")


@pytest.mark.parametrize(
    ("further", "runs", "owners"),
    [
        ("p-api-canary", "p-api", {"api"}),
        ("p-api-canary", "p-api-canary", {"api", "api-canary"}),
        ("p-worker", "p-api", {"api", "worker"}),
    ],
)
def test_further_service_belongs_to_the_service_whose_family_it_runs(
    further: str, runs: str, owners: set[str]
) -> None:
    answers = ecs_answers(["p-api", further])
    told = [told_service("p-api"), {**told_service(further), "taskDefinition": f"{runs}:1"}]
    answers["describe_services"] = lambda **_: {"services": told}
    found = AwsReader(scripted(**answers)[0], NAMES).uses(())
    assert {use.owner for use in found} == owners


@pytest.mark.parametrize(
    ("further", "image", "owner"),
    [("p-api-canary", "p-api:9", "api"), ("p-api-canary", "p-x:9", "api-canary"), ("p-c", "p-api:9", "c")],
)
def test_further_service_belongs_to_the_service_that_it_is_named_after_if_it_runs_its_image(
    further: str, image: str, owner: str
) -> None:
    def define(family: str) -> dict[str, Any]:
        box = {"name": family, "image": image if family == further else "p-api:1"}
        return {"family": family, "containerDefinitions": [box]}

    answers = ecs_answers(["p-api", further])
    answers["describe_task_definition"] = lambda taskDefinition: {
        "taskDefinition": define(taskDefinition.partition(":")[0])
    }
    found = AwsReader(scripted(**answers)[0], NAMES).uses(())
    assert {use.owner for use in found} == {"api", owner}


def test_alarms_are_not_read_while_another_process_drills(tmp_path: Path) -> None:
    answers = {**ecs_answers([]), "describe_alarms": lambda **_: {"MetricAlarms": []}}
    driller, reader = (AwsReader(scripted(**answers)[0], NAMES, tmp_path) for _ in range(2))
    began, ended = threading.Event(), threading.Event()

    def read() -> None:
        began.set()
        reader.alarms()
        ended.set()

    with driller.drilling():
        assert driller.alarms() == []
        threading.Thread(target=read, daemon=True).start()
        assert began.wait(5)
        assert not ended.wait(0.2)
    assert ended.wait(5)
    assert [reader.alarms(), driller.alarms()] == [[], []]


def test_what_failed_is_not_kept() -> None:
    answers = iter([raising("AccessDenied"), lambda **_: {"TopicArn": TOPIC_ARN, "Topics": []}])
    account, _ = scripted(list_topics=lambda **_: next(answers)())
    observed = AwsReader(account, NAMES)
    with pytest.raises(SetupError, match="sns:ListTopics"):
        observed.topic()
    account._refusals.clear()
    with pytest.raises(AssertionError, match="no topic p-alerts"):
        observed.topic()


def test_alarms_are_not_looked_for_where_the_platform_is_not() -> None:
    account, client = scripted(describe_clusters=lambda **_: {"clusters": []})
    with pytest.raises(SetupError, match="the platform does not run there"):
        AwsReader(account, NAMES).alarms()
    assert [method for method, _ in client.asked] == ["describe_clusters"]


def test_datapoints_are_counted_for_exactly_these_dimensions() -> None:
    def get_metric_data(MetricDataQueries: list[Any], **_: Any) -> dict[str, Any]:
        results = [
            {"Id": query["Id"], "Values": [1.0] * index} for index, query in enumerate(MetricDataQueries)
        ]
        return {"MetricDataResults": [*results, {"Id": "m1", "Values": [1.0]}]}

    account, client = scripted(get_metric_data=get_metric_data)
    bare = Metric("N", "M")
    assert read_datapoints(account, [CPU, bare, CPU], now=NOON) == {CPU: 0, bare: 2}
    (_, asked) = client.asked[0]
    assert asked["StartTime"] == NOON - timedelta(minutes=15)
    metric = asked["MetricDataQueries"][0]["MetricStat"]["Metric"]
    assert {each["Name"]: each["Value"] for each in metric["Dimensions"]} == dict(CPU.dimensions)
    assert read_datapoints(account, [], now=NOON) == {}


def test_the_topic_is_found_by_its_name_alone() -> None:
    topics = [{"TopicArn": f"{TOPIC_ARN}-archive"}, {"TopicArn": TOPIC_ARN}]
    account, _ = scripted(list_topics=lambda **_: {"Topics": topics})
    assert topic_arn(account, NAMES) == TOPIC_ARN


def test_text_on_a_dashboard_shows_nothing() -> None:
    body = '{"variables": [{"id": "x"}], "widgets": [{"type": "text"}, {"type": "metric"}]}'
    account, _ = scripted(get_dashboard=lambda **_: {"DashboardBody": body})
    assert read_dashboard(account, "d") == {"variables": [{"id": "x"}], "widgets": [{"type": "metric"}]}
    gone, _ = scripted(get_dashboard=raising("ResourceNotFound"))
    assert read_dashboard(gone, "d") is None


@pytest.mark.parametrize(
    ("text", "prefix", "another"),
    [
        ("arrakis-staging-api", "arrakis-staging", ""),
        ("arrakis-staging-api beside arrakis-production-api", "arrakis-staging", ""),  # compares the two
        ("arrakis-production-api", "arrakis-staging", "arrakis-production-api"),
        ("app/arrakis-prod-alb/0a", "arrakis-staging", "arrakis-prod-alb/0a"),
        ("shared-public of everybody", "arrakis-staging", ""),
        ("arrakis-production-api", "arrakis", ""),  # says nothing of how others are named
    ],
)
def test_a_dashboard_shows_its_own_environment(text: str, prefix: str, another: str) -> None:
    assert of_another(text, prefix) == another


def test_log_groups_of_the_platform_are_read_together_and_others_by_name() -> None:
    def describe_log_groups(logGroupNamePrefix: str) -> dict[str, Any]:
        if logGroupNamePrefix == "/ecs/p/":
            return {"logGroups": [{"logGroupName": "/ecs/p/api", "retentionInDays": 30}]}
        return {"logGroups": [{"logGroupName": "/own"}]}

    account, client = scripted(describe_log_groups=describe_log_groups)
    assert AwsReader(account, NAMES).retention(["/ecs/p/api", "/ecs/p/finn", "/own"]) == {
        "/ecs/p/api": 30,
        "/own": 0,
    }
    assert len(client.asked) == 2


def test_the_records_of_this_environment_are_read_and_no_others() -> None:
    zones = {"x.example.": "Z1", "p.local.": "Z2", "other.example.": "Z3", "example.": "Z4"}
    records = {
        "Z1": [
            "api.x.example.",
            "_acme-challenge.api.x.example.",
            "docs.x.example.",
            "finn.staging.x.example.",
            "blog.staging.x.example.",
        ],
        "Z2": ["finn.p.local."],
        "Z3": ["api.other.example."],
        "Z4": ["example."],
    }
    account, _ = scripted(
        list_hosted_zones=lambda **_: {"HostedZones": [{"Name": n, "Id": i} for n, i in zones.items()]},
        list_resource_record_sets=lambda **asked: {
            "ResourceRecordSets": [
                {"Name": name, "ResourceRecords": [{"Value": "10.0.0.1"}]}
                for name in records[asked["HostedZoneId"]]
            ]
        },
    )
    found = [name for name, _ in read_records(account, Names("p-staging"), ["api.x.example"])]
    assert found == ["api.x.example", "_acme-challenge.api.x.example", "finn.staging.x.example"]
    assert ("finn.p.local", "10.0.0.1") in read_records(account, NAMES, ["api.x.example"])


def test_an_alias_leads_somewhere_too() -> None:
    alias = {"Name": "api.x.example.", "AliasTarget": {"DNSName": "p-alb.elb.amazonaws.com."}}
    account, _ = scripted(
        list_hosted_zones=lambda **_: {"HostedZones": [{"Name": "x.example.", "Id": "Z1"}]},
        list_resource_record_sets=lambda **_: {"ResourceRecordSets": [alias]},
    )
    assert read_records(account, NAMES, ["api.x.example"]) == [("api.x.example", "p-alb.elb.amazonaws.com.")]
    assert read_records(account, NAMES, ["api.y.example"]) == []


def test_a_name_that_cloud_map_does_not_know_resolves_to_nothing() -> None:
    instances = [
        {
            "HealthStatus": "HEALTHY",
            "Attributes": {"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "3000"},
        },
        {"HealthStatus": "UNKNOWN", "Attributes": {"AWS_INSTANCE_IPV4": "10.0.0.2"}},
        {"HealthStatus": "UNHEALTHY", "Attributes": {"AWS_INSTANCE_IPV4": "10.0.0.3"}},
        {"Attributes": {"AWS_INSTANCE_CNAME": "x.example"}},
        {"Attributes": {"AWS_ALIAS_DNS_NAME": "internal-x.elb.amazonaws.com"}},
        {"Attributes": {}},
    ]
    account, _ = scripted(discover_instances=lambda **_: {"Instances": instances})
    found = ["10.0.0.1:3000", "10.0.0.2", "x.example", "internal-x.elb.amazonaws.com"]
    assert resolve(account, NAMES, "finn") == found
    for code in ("NamespaceNotFound", "ServiceNotFound"):
        assert resolve(scripted(discover_instances=raising(code))[0], NAMES, "finn") == []


def test_a_registry_is_recognised_by_its_host_name() -> None:
    services = {
        "srv-1": {"Name": "finn", "NamespaceId": "ns"},
        "srv-2": {"Name": "dixie", "DnsConfig": {"NamespaceId": "ns"}},
        "srv-3": {"Name": "lost"},
    }
    account, _ = scripted(
        get_service=lambda Id: {"Service": services[Id]},
        list_namespaces=lambda **_: {"Namespaces": [{"Id": "ns", "Name": "p.local"}]},
    )
    arns = [f"arn:x:service/{each}" for each in services]
    found = [each.name for each in read_registries(account, arns).values()]
    assert found == ["finn.p.local", "dixie.p.local", "lost.?"]
    assert read_registries(scripted()[0], []) == {}


@pytest.mark.parametrize(("status", "raised"), [("InternalError", ExternalOutage), ("Forbidden", SetupError)])
def test_a_metric_that_cloudwatch_did_not_read_is_not_one_without_data(
    status: str, raised: type[Exception]
) -> None:
    result = {"Id": "m0", "Values": [], "StatusCode": status}
    account, _ = scripted(get_metric_data=lambda **_: {"MetricDataResults": [result]})
    with pytest.raises(raised, match="CPUUtilization"):
        read_datapoints(account, [CPU], now=NOON)


def test_a_build_that_another_task_shortens_did_not_change() -> None:
    before = {"finn": "0123abcd", "dixie": "0123abc", "freeside": "", "worker": "v1"}
    found = {"finn": "0123ABC", "dixie": "0123abcd", "freeside": "4567abc", "worker": "v1.1"}
    assert backends.spelled_as(before, found) == before | {"freeside": "4567abc", "worker": "v1.1"}
    assert backends.spelled_as({}, found) == found
    assert backends.spelled_as({"finn": "9123abcd"}, {"finn": "0123abc"}) == {"finn": "0123abc"}


def test_the_workers_build_is_its_images_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: Any = SimpleNamespace(
        live=False,
        aws=SimpleNamespace(region="us-east-1", prefix="p", endpoint_url=""),
        finn=SimpleNamespace(reachable=False),
        get=lambda name: "",
    )
    account, _ = scripted(**ecs_answers(["p-worker"]))
    monkeypatch.setattr(backends, "account_of", lambda _: account)
    assert image_in_use(account, NAMES, "worker") == "p-worker:0123abc"
    assert backends.builds(environment) == {"worker": "0123abc"}
    denied, _ = scripted(describe_services=raising("AccessDenied"))
    monkeypatch.setattr(backends, "account_of", lambda _: denied)
    assert backends.builds(environment) == {"worker": ""}
    gone, _ = scripted(describe_services=lambda **_: {"services": []})
    assert image_in_use(gone, NAMES, "worker") == ""
