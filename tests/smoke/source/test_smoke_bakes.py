"""The builds and pushes for which bake and compose stand."""

import pytest

from smoke.source.pipeline.bakes import DockerRefusal, Given, Unread, stands_for

HCL = """
variable "TAG" { default = "dev" }
group "default" { targets = ["api", "jobs"] }
group "lost" { targets = ["api", "worker"] }
target "base" { args = { NODE_ENV = "production" } }
target "api" {
  inherits = ["base"]
  tags     = ["registry/shop-api:${TAG}"]
  cache-to = ["type=gha,mode=max"]
}
target "jobs" { context = "jobs" }
target "pushed" {
  context    = "jobs"
  dockerfile = "../Dockerfile"
  target     = "runtime"
  platforms  = ["linux/amd64"]
  output     = ["type=registry"]
}
target "chosen" {
  tags = ["registry/shop-api:${TAG}", TAG == "main" ? "registry/shop-api:latest" : ""]
  args = { MODE = TAG == "main" ? "release" : "debug" }
}
"""
MATRIX = """
target "many" {
  name   = "shop-${part}"
  matrix = { part = ["a", "b"] }
}
"""
JSON = '{"variable": {"TAG": {}}, "target": {"default": {"tags": ["registry/shop-api:${TAG}"]}}}'
COMPOSE = """
services:
  api: { build: { context: .., args: { COMMIT: "${TAG:-dev}" } }, image: "registry/shop-api:${TAG:-dev}" }
  db: { image: "postgres:15" }
"""
TAGGED = 'services: { api: { build: { context: ., tags: ["r/x:$TAG"] }, image: "r/x:latest" } }'
DEMANDS = 'services: { api: { build: ., image: "registry/shop-api:${TAG:?no tag}" } }'
PROFILE = "services: { api: { build: ., image: r/x:1 }, tools: { build: tools, profiles: [tools] } }"
FILES = {
    "docker-bake.hcl": HCL,
    "bake/matrix.hcl": MATRIX,
    "bake/again.hcl": HCL,
    "bake/shop.json": JSON,
    "deploy/compose.yaml": COMPOSE,
    "tagged.yaml": TAGGED,
    "demands.yaml": DEMANDS,
    "profile.yaml": PROFILE,
    "more.yaml": "services: {}",
}
API = "docker build --tag registry/shop-api:{} --build-arg NODE_ENV=production --push ."
PUSHED = (
    "docker build --file Dockerfile --target runtime --platform linux/amd64"
    " --output type=registry --push jobs"
)
BUILT = "docker build --tag registry/shop-api:7 --build-arg COMMIT=7 {}."


def found(command: str, *, exported: bool = True, **more: str) -> list[str]:
    given = Given({"TAG": "7", **more} if exported else more, lambda name: not exported, FILES.get)
    standing = stands_for(command.split(), given)
    assert standing is not None
    return [" ".join(each) for each in standing]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("docker buildx bake --push api", [API.format(7)]),
        ("docker buildx bake --metadata-file m.json --push", [API.format(7), "docker build --push jobs"]),
        ("docker buildx bake -f docker-bake.hcl --push api", [API.format(7)]),
        (
            "docker buildx bake --push --set api.tags=r/x:1 api",
            [API.format(7).replace("registry/shop-api:7", "r/x:1")],
        ),
        ("docker buildx bake --set *.args.NODE_ENV=test --push api",
         [API.format(7).replace("production", "test")]),
        ("docker buildx bake pushed", [PUSHED]),
        ("docker buildx bake --print api", []),
        ("docker buildx bake -f bake/shop.json", ["docker build --tag registry/shop-api:7 ."]),
        ("docker buildx bake -f deploy/compose.yaml api", [BUILT.format(".")]),
        ("docker compose -f deploy/compose.yaml build --pull", [BUILT.format("")]),
        ("docker compose -f deploy/compose.yaml build --push api", [BUILT.format("--push ")]),
        ("docker compose -f deploy/compose.yaml push", ["docker push registry/shop-api:7"]),
        ("docker compose -f deploy/compose.yaml push db", []),
        ("docker compose -f tagged.yaml push", ["docker push r/x:latest", "docker push r/x:7"]),
        ("docker compose -f profile.yaml build api", ["docker build --tag r/x:1 ."]),
    ],
)  # fmt: skip
def test_a_command_stands_for_builds_and_pushes(command: str, expected: list[str]) -> None:
    assert found(command) == expected


@pytest.mark.parametrize("command", ["docker build .", "docker compose up", "docker push r/x:1"])
def test_another_command_stands_for_itself(command: str) -> None:
    assert stands_for(command.split(), Given({}, lambda _: True, FILES.get)) is None


def test_a_variable_that_is_not_exported_has_its_default() -> None:
    assert found("docker buildx bake --push api", exported=False) == [API.format("dev")]


def test_a_choice_that_only_a_run_makes_may_give_either_tag() -> None:
    tags = "--tag registry/shop-api:7 --tag registry/shop-api:latest"
    assert found("docker buildx bake chosen") == [f"docker build {tags} --build-arg MODE=${{choice}} ."]
    chosen = "docker build --tag registry/shop-api:dev --build-arg MODE=debug ."
    assert found("docker buildx bake chosen", exported=False) == [chosen]


def test_a_variable_that_may_be_exported_stays_as_written() -> None:
    built = stands_for(["docker", "buildx", "bake", "api"], Given({}, lambda _: False, FILES.get)) or []
    assert ["registry/shop-api:${TAG}" in each for each in built] == [True]


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("docker buildx bake server", "docker-bake.hcl has no target server"),
        ("docker buildx bake --push lost", "docker-bake.hcl has no target worker"),
        ("docker buildx bake -f bake/shop.json", "without a tag: nothing sets its variable"),
        ("docker compose -f deploy/compose.yaml build web", "has no service web"),
        ("docker compose -f demands.yaml build", "nothing sets TAG, which the compose file demands"),
    ],
)
def test_what_docker_refuses_is_wrong(command: str, wrong: str) -> None:
    with pytest.raises(DockerRefusal, match=wrong):
        found(command, exported=False)


@pytest.mark.parametrize(
    "command",
    [
        "docker buildx bake -f bake/matrix.hcl many",
        "docker buildx bake -f bake/matrix.hcl shop-a",
        "docker buildx bake -f docker-bake.hcl -f bake/again.hcl api",
        "docker buildx bake -f absent.hcl api",
        "docker buildx bake https://x.org/a.git --push",
        "docker compose -f tagged.yaml -f more.yaml push",
        "docker compose -f tagged.yaml --env-file ci.env push",
        "docker compose -f profile.yaml build",
        "docker compose push",
    ],
)
def test_what_is_not_written_out_is_not_read(command: str) -> None:
    with pytest.raises(Unread):
        found(command)


@pytest.mark.parametrize("command", ["docker buildx bake api", "docker compose build"])
def test_a_variable_may_name_other_files(command: str) -> None:
    with pytest.raises(Unread, match="variable"):
        found(command, COMPOSE_FILE="a.yaml:b.yaml")
