"""Whether the images of a task are still where it would pull them from."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pytest_readiness import SetupError

from smoke.aws.ecs import expiring, images_there
from smoke.aws.ecs_tasks import RunningTask, moved, without_files, without_volumes
from tests.smoke.aws.fakes import definition, raising, scripted

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def found(image: str, *, images: int = 1) -> tuple[list[str], list[dict[str, Any]]]:
    """What is said of a task with one image, and what was asked of ECR."""
    account, client = scripted(
        describe_images=lambda **_: {"imageDetails": [{}] * images},
        describe_pull_through_cache_rules=lambda **_: {
            "pullThroughCacheRules": [{"ecrRepositoryPrefix": "hub"}]
        },
    )
    examined = images_there(account, definition("finn", image=image))
    said = [str(each) for each in (*examined.findings, *examined.not_examined)]
    return said, [parameters for _, parameters in client.asked]


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (f"{REGISTRY}/team/finn:0123abc", {"imageTag": "0123abc"}),
        (f"{REGISTRY}/team/finn", {"imageTag": "latest"}),
        (f"{REGISTRY}/team/finn@sha256:ab", {"imageDigest": "sha256:ab"}),
        (f"{REGISTRY}/team/finn:0123abc@sha256:ab", {"imageDigest": "sha256:ab"}),
        ("123456789012.dkr-ecr.us-east-1.on.aws/team/finn:0123abc", {"imageTag": "0123abc"}),
    ],
)
def test_an_image_is_looked_up_by_what_is_pulled(image: str, wanted: dict[str, str]) -> None:
    place = {"registryId": "123456789012", "repositoryName": "team/finn"}
    assert found(image) == ([], [{**place, "imageIds": [wanted]}])
    said = f"no replacement task can start: {image} is not in the registry"
    assert found(image, images=0)[0] == [said]


def test_what_ecr_fetches_when_it_is_pulled_may_be_absent() -> None:
    assert found(f"{REGISTRY}/hub/otel/agent:1.0", images=0)[0] == []
    assert found(f"{REGISTRY}/hubble/agent:1.0", images=0)[0] != []


@pytest.mark.parametrize("image", ["edoburu/pgbouncer:v1.23.1-p2", "public.ecr.aws/x/y:1", "ghcr.io/a/b:1"])
def test_other_registries_are_not_asked(image: str) -> None:
    assert found(image) == ([], [])


def test_another_regions_image_is_not_examined() -> None:
    image = f"{REGISTRY.replace('us-east-1', 'eu-west-1')}/finn:1"
    assert found(image) == ([f"whether {image} exists: it is in eu-west-1"], [])


@pytest.mark.parametrize("code", ["ImageNotFoundException", "RepositoryNotFoundException"])
def test_an_image_or_a_repository_that_is_gone(code: str) -> None:
    account, _ = scripted(
        describe_images=raising(code), describe_pull_through_cache_rules=raising("InvalidAction")
    )
    assert images_there(account, definition("finn", image=f"{REGISTRY}/finn:0123abc")).findings


@pytest.mark.parametrize(
    ("status", "there"), [("", True), ("ACTIVE", True), ("ACTIVATING", True), ("ARCHIVED", False)]
)
def test_an_archived_image_cannot_be_pulled(status: str, there: bool) -> None:
    details = {"imageStatus": status} if status else {}
    account, _ = scripted(
        describe_images=lambda **_: {"imageDetails": [details]},
        describe_pull_through_cache_rules=lambda **_: {},
    )
    examined = images_there(account, definition("finn", image=f"{REGISTRY}/finn:0123abc"))
    assert bool(examined.findings) != there


def test_a_denied_call_is_the_runners_fault() -> None:
    account, _ = scripted(describe_images=raising("AccessDenied"))
    with pytest.raises(SetupError, match="ecr:DescribeImages"):
        images_there(account, definition("finn", image=f"{REGISTRY}/finn:0123abc"))


INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize(
    ("image", "kept", "named", "others", "why"),
    [
        ("finn:1", True, {"imageDigest": "sha256:a"}, [], ""),
        ("finn:1", True, {"imageDigest": "sha256:b"}, [], "it names sha256:b, but sha256:a runs"),
        ("finn:1", True, {"imageDigest": "sha256:b"}, [{}], ""),
        ("finn:1", False, {"imageDigest": "sha256:a"}, [{}], ""),
        ("finn:1", False, {"imageDigest": "sha256:b"}, [{}], "it names sha256:b, but sha256:a runs"),
        ("finn:1", False, {"imageDigest": "sha256:b", "imageManifestMediaType": INDEX}, [{}], ""),
        ("finn:1", False, {"imageDigest": "sha256:b", "imageManifestMediaType": INDEX}, [], "sha256:a runs"),
        ("finn@sha256:a", False, {"imageDigest": "sha256:b"}, [], ""),
        ("finn:1@sha256:a", False, {"imageDigest": "sha256:b"}, [], ""),
    ],
)
def test_the_next_task_runs_the_same_image(
    image: str, kept: bool, named: dict[str, str], others: list[Any], why: str
) -> None:
    def describe_images(imageIds: list[dict[str, str]], **_: Any) -> dict[str, Any]:
        return {"imageDetails": [named] if "imageTag" in imageIds[0] else others}

    account, _ = scripted(describe_images=describe_images)
    task = RunningTask("t", "p-finn:1", "", {"finn": f"{REGISTRY}/{image}"}, {"finn": "sha256:a"})
    main = replace(definition("finn").main("finn"), keeps_digest=kept)
    found = moved(account, main, [task])
    assert [why in each for each in found] == ([True] if why else [])
    assert moved(account, replace(main, name="sidecar"), [task]) == []


def test_a_tag_of_another_registry_is_not_looked_up() -> None:
    account, _ = scripted()
    task = RunningTask("t", "p-finn:1", "", {"finn": "ghcr.io/a/b:1"}, {"finn": "sha256:a"})
    assert moved(account, definition("finn").main("finn"), [task]) == []


@pytest.mark.parametrize(
    ("listed", "gone", "unread"),
    [
        (lambda **_: {"Contents": [{"Key": "finn.env"}]}, 0, 0),
        (lambda **_: {"Contents": [{"Key": "finn.env.before"}]}, 1, 0),
        (lambda **_: {}, 1, 0),
        (raising("NoSuchBucket"), 1, 0),
        (raising("AccessDenied"), 0, 1),  # another account's, for example
    ],
)
def test_a_file_with_variables_is_there(listed: Any, gone: int, unread: int) -> None:
    account, client = scripted(list_objects_v2=listed)
    finn = definition("finn")
    (box,) = finn.containers
    task = replace(finn, containers=(replace(box, files=("arn:aws:s3:::settings/finn.env",)),))
    examined = without_files(account, {"finn": task, "api": definition("api")})
    assert (len(examined.findings), len(examined.not_examined)) == (gone, unread)
    assert client.asked == [("list_objects_v2", {"Bucket": "settings", "Prefix": "finn.env", "MaxKeys": 1})]
    assert all("s3:ListBucket" in each.what for each in examined.not_examined)


@pytest.mark.parametrize("code", ["AccessDenied", "PermanentRedirect"])
def test_a_bucket_that_refuses_says_nothing_of_others(code: str) -> None:
    def listed(Bucket: str, **_: Any) -> Any:
        return raising(code)() if Bucket == "foreign" else {}

    account, _ = scripted(list_objects_v2=listed, describe_images=lambda **_: {"imageDetails": []})
    finn = definition("finn", image=f"{REGISTRY}/team/finn:0123abc")
    (box,) = finn.containers
    files = ("arn:aws:s3:::foreign/finn.env", "arn:aws:s3:::settings/finn.env")
    examined = without_files(account, {"finn": replace(finn, containers=(replace(box, files=files),))})
    assert len(examined.not_examined) == (1 if code == "AccessDenied" else 2)
    assert len(examined.findings) == (1 if code == "AccessDenied" else 0)
    assert account.find("ecr", "describe_images", ()) == {"imageDetails": []}


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({}, ""),
        ({"describe_file_systems": raising("FileSystemNotFound")}, "fs-1 does not exist"),
        ({"describe_file_systems": lambda **_: {"FileSystems": [{"LifeCycleState": "deleting"}]}},
         "fs-1 is deleting"),
        ({"describe_mount_targets": lambda **_: {"MountTargets": []}}, "fs-1 has no mount target"),
        ({"describe_access_points": raising("AccessPointNotFound")}, "fs-1 has no access point fsap-1"),
        ({"describe_file_systems": raising("AccessDeniedException")}, "elasticfilesystem:Describe"),
    ],
)  # fmt: skip
def test_a_file_system_can_be_mounted(answers: dict[str, Any], why: str) -> None:
    good = {
        "describe_file_systems": lambda **_: {"FileSystems": [{"LifeCycleState": "available"}]},
        "describe_mount_targets": lambda **_: {"MountTargets": [{}]},
        "describe_access_points": lambda **_: {"AccessPoints": [{}]},
    }
    account, client = scripted(**{**good, **answers})
    finn = replace(definition("finn"), volumes={"data": ("fs-1", "fsap-1"), "spare": ("fs-2", "")})
    assert without_volumes(account, {"finn": finn}).findings == []  # nothing mounts them
    assert client.asked == []
    (box,) = finn.containers
    mounted = replace(finn, containers=(replace(box, mounts=("data", "a-bind-mount")),))
    examined = without_volumes(account, {"finn": mounted})
    said = [each.what for each in (*examined.findings, *examined.not_examined)]
    assert len(said) == bool(why)
    assert all(why in each for each in said)
    assert bool(examined.not_examined) == why.startswith("elastic")


@pytest.mark.parametrize(
    ("selection", "why"),
    [
        (None, []),
        ({"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 30}, []),
        ({"tagStatus": "untagged", "countType": "sinceImagePushed", "countNumber": 1}, []),
        ({"tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 2},
         ["the lifecycle policy of team/finn deletes an image after 2 days, even if it is in use"]),
        ({"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1},
         ["the lifecycle policy of team/finn keeps 1 image, so there is none to roll back to"]),
    ],
)  # fmt: skip
def test_a_registry_keeps_images_that_are_needed(selection: dict[str, Any] | None, why: list[str]) -> None:
    rules = [{"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}]
    told = raising("LifecyclePolicyNotFoundException") if selection is None else None
    account, _ = scripted(
        get_lifecycle_policy=told or (lambda **_: {"lifecyclePolicyText": json.dumps({"rules": rules})}),
        describe_pull_through_cache_rules=lambda **_: {},
    )
    found = expiring(account, definition("finn", image=f"{REGISTRY}/team/finn:0123abc"))
    assert [each.what for each in found.findings] == why
    rules[0]["action"] = {"type": "transition", "targetStorageClass": "archive"}
    found = expiring(account, definition("finn", image=f"{REGISTRY}/team/finn:0123abc"))
    assert [each.what for each in found.findings] == [each.replace("deletes", "archives") for each in why]


def test_an_image_that_is_fetched_again_may_be_deleted() -> None:
    selection = {"tagStatus": "any", "countType": "sinceImagePushed", "countNumber": 1}
    account, _ = scripted(
        get_lifecycle_policy=lambda **_: {
            "lifecyclePolicyText": json.dumps({"rules": [{"rulePriority": 1, "selection": selection}]})
        },
        describe_pull_through_cache_rules=lambda **_: {
            "pullThroughCacheRules": [{"ecrRepositoryPrefix": "hub"}]
        },
    )
    finn = definition("finn", image=f"{REGISTRY}/team/finn:0123abc")
    assert expiring(account, finn).findings
    assert not expiring(account, definition("finn", image=f"{REGISTRY}/hub/envoy:1.30")).findings


def test_a_registry_that_refuses_does_not_hide_another() -> None:
    selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1}
    policy = json.dumps({"rules": [{"rulePriority": 1, "selection": selection}]})

    def answer(registryId: str, **_: Any) -> Any:
        return raising("AccessDenied")() if registryId.startswith("9") else {"lifecyclePolicyText": policy}

    account, _ = scripted(get_lifecycle_policy=answer, describe_pull_through_cache_rules=lambda **_: {})
    finn = definition("finn", image=f"{REGISTRY}/team/finn:0123abc")
    (box,) = finn.containers
    sidecar = replace(box, image=f"9{REGISTRY[1:]}/team/sidecar:1")
    found = expiring(account, replace(finn, containers=(box, sidecar)))
    assert (len(found.findings), len(found.not_examined)) == (1, 1)
    assert "ecr:GetLifecyclePolicy" in found.not_examined[0].what
