"""The builds and pushes for which bake and compose stand."""

import pytest

from smoke.source.pipeline.bakes import Given, Unread, Refused, stands_for

HCL = """
variable "TAG" { default = "dev" }
group "default" { targets = ["api", "jobs"] }
target "base" { args = { NODE_ENV = "production" } }
target "api" {
  inherits = ["base"]
  tags     = ["registry/shop-api:${TAG}"]
  cache-to = ["type=gha,mode=max"]
}
target "jobs" { context = "jobs" }
target "many" { matrix = { one = ["a", "b"] } }
"""
COMPOSE = """
services:
  api: { build: { context: ., args: { COMMIT: "${TAG:-dev}" } }, image: "registry/shop-api:${TAG:-dev}" }
  db: { image: "postgres:15" }
"""
FILES = {"docker-bake.hcl": HCL, "deploy/compose.yaml": COMPOSE}
API = "docker build --tag registry/shop-api:{} --build-arg NODE_ENV=production --push ."
COMPOSED = "docker build --tag registry/shop-api:7 --build-arg COMMIT=7 ."


def found(command: str, *, exported: bool = True) -> list[str]:
    given = Given({"TAG": "7"} if exported else {}, lambda name: not exported, FILES.get)
    standing = stands_for(command.split(), given)
    assert standing is not None
    return [" ".join(each) for each in standing]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("docker buildx bake --push api", [API.format(7)]),
        ("docker buildx bake --metadata-file m.json --push", [API.format(7), "docker build --push jobs"]),
        (
            "docker buildx bake --push --set api.tags=r/x:1 api",
            [API.format(7).replace("registry/shop-api:7", "r/x:1")],
        ),
        ("docker buildx bake -f deploy/compose.yaml api", [COMPOSED]),
        ("docker compose -f deploy/compose.yaml push", ["docker push registry/shop-api:7"]),
        ("docker compose -f deploy/compose.yaml push db", []),
    ],
)
def test_a_command_stands_for_builds_and_pushes(command: str, expected: list[str]) -> None:
    assert found(command) == expected


def test_a_variable_that_is_not_exported_has_its_default() -> None:
    assert found("docker buildx bake --push api", exported=False) == [API.format("dev")]


@pytest.mark.parametrize(
    "command", ["docker buildx bake server", "docker compose -f deploy/compose.yaml build web"]
)
def test_a_target_that_does_not_exist_is_wrong(command: str) -> None:
    with pytest.raises(Refused, match="has no"):
        found(command)


@pytest.mark.parametrize(
    "command", ["docker buildx bake many", "docker buildx bake https://x.org/a.git --push"]
)
def test_what_is_not_written_out_is_not_read(command: str) -> None:
    with pytest.raises(Unread):
        found(command)
