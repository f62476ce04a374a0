"""Commands of a deployment that do nothing are findings; the same commands in a legal style are not."""

from typing import Any

import pytest
import yaml

from smoke.source.checkout import Examined
from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.pipeline.delivery import delivered
from smoke.source.pipeline.effects import ineffective
from smoke.source.pipeline.expansion import Expansion
from smoke.source.pipeline.repository import Repository
from smoke.source.pipeline.rollout import uncarried
from tests.smoke.source.terraform_files import Read
from tests.smoke.source.workflow_files import PLAN, W, deploy, repository, workflow

FAMILIES = ["shop-staging-api", "shop-staging-migration"]
UPDATE = "aws ecs update-service --cluster c --service s"
OF_API = "aws ecs update-service --service shop-staging-api --cluster {}"
PUSH = 'docker build -t "$R/shop-api:$T" .\ndocker push "$R/shop-NAME:$T"'


def found(run: str, *, build: str = "make", migrate: str = "scripts/migrate.sh", **files: Any) -> list[str]:
    jobs = {name: {"steps": [{"run": text}]} for name, text in (("build", build), ("migrate", migrate))}
    data = workflow(deploy=deploy(steps=[{"run": run}]), **jobs)
    return [each.what for each in ineffective(repository(data, **files), PLAN, FAMILIES)]


@pytest.mark.parametrize(
    ("run", "what"),
    [
        (f"echo {UPDATE}", "only printed"),
        (f"{UPDATE}\nn=$(echo aws ecs register-task-definition --cli-input-json x)", "only printed"),
        (f"echo {UPDATE}\n{UPDATE}", ""),
        (f"echo '{UPDATE}'", ""),
        (f'if [ -n "$DRY" ]; then echo {UPDATE}; else {UPDATE}; fi', ""),
        (f"eval $(echo {UPDATE})", ""),
        (f"terraform apply\necho {UPDATE} --task-definition old", ""),
        (f"{UPDATE}\naws ecs wait services-inactive --services s", "services-inactive waits"),
        (f"{UPDATE}\naws ecs delete-service --service s\naws ecs wait services-inactive --services s", ""),
        (f"{UPDATE} --task-definition api", "no task definition api: it is called shop-staging-api"),
        (f"{UPDATE} --task-definition api:3", "no task definition api"),
        (f"{UPDATE} --task-definition shop-staging-api", ""),
        (f"aws ecs register-task-definition --family api\n{UPDATE} --task-definition api", ""),
        (f"{UPDATE} --task-definition other", ""),
        (OF_API.format("live"), "a service of shop-staging is looked for in the cluster live"),
        (OF_API.format("shop-staging-jobs"), ""),
        (OF_API.format('"$CLUSTER"'), ""),
        (f'{UPDATE} --task-definition "$P-api"', ""),
        (
            f"{UPDATE}\naws ecs wait tasks-stopped --tasks shop-staging-migrate",
            "no task shop-staging-migrate",
        ),
        (f'{UPDATE}\naws ecs describe-tasks --tasks "$task"', ""),
        (f"{UPDATE}\naws ecs describe-tasks --tasks 1dc5c17a422b4dc4b493371970c6c4d6", ""),
        ("aws ecs update-service --cluster '$P-cluster'", "literally $P-cluster"),
        ("aws ecs update-service --cluster '${P}-cluster'", "literally ${P}-cluster"),
        ("aws ecs update-service --cluster 'c' --query '$.x'", ""),
        ("sh -c 'aws ecs update-service --cluster \"$P\"'", ""),
        ("eval aws ecs update-service --cluster '$P-cluster'", ""),
    ],
)
def test_a_deployment_does_what_it_says(run: str, what: str) -> None:
    wrong = found(run)
    assert len(wrong) == bool(what), wrong
    assert all(what in each for each in wrong)


@pytest.mark.parametrize(
    ("script", "count"),
    [
        (f"deploy() {{\n  {UPDATE}\n}}\n", 1),
        (f"deploy() {{\n  {UPDATE}\n}}\ndeploy\n", 0),
        (f'deploy() {{\n  {UPDATE}\n}}\n"$@"\n', 0),
        (f"deploy() {{\n  {UPDATE}\n}}\n{UPDATE}\n", 0),
        (f"deploy() {{\n  {UPDATE}\n}}\ntrap deploy EXIT\n", 0),
        (f'deploy() {{\n  {UPDATE}\n}}\nretry 3 "deploy"\n', 0),
        (f"restart() {{\n  {UPDATE}\n}}\naws deploy create-deployment --cli-input-json x\n", 0),
    ],
)
def test_a_function_that_updates_a_service_is_called(script: str, count: int) -> None:
    assert (
        sum("nothing calls the function" in each for each in found("./d.sh", **{"d.sh": f"set -e\n{script}"}))
        == count
    )


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (PUSH.replace("NAME", "app"), 1),
        (PUSH.replace("NAME", "api"), 0),
        (f"docker tag a $R/shop-app:$T\n{PUSH.replace('NAME', 'app')}", 0),
        (f"./mvnw spring-boot:build-image\n{PUSH.replace('NAME', 'app')}", 0),
        (f"docker load -i x.tar\n{PUSH.replace('NAME', 'app')}", 0),
        (f'docker build -t "$IMAGE" .\n{PUSH.replace("NAME", "app")}', 0),
        ('docker push "$R/shop-app:$T"', 0),
        (PUSH.replace("shop-NAME", "$name"), 0),
    ],
)
def test_what_is_pushed_was_built(build: str, count: int) -> None:
    assert sum("is pushed, but" in each for each in found(UPDATE, build=build)) == count


START = "aws ecs run-task --cluster CLUSTER --task-definition x"


@pytest.mark.parametrize(
    ("migrate", "what"),
    [
        (f"{START}\naws ecs wait tasks-running --tasks t\naws ecs describe-tasks", "tasks-stopped waits"),
        (f"{START}\naws ecs wait tasks-running --tasks t\naws ecs wait tasks-stopped --tasks t", ""),
        (f"{START}\naws ecs wait tasks-running --tasks t\nuntil ./done.sh; do sleep 5; done", ""),
        (START.replace("CLUSTER", "shop-dev-cluster"), "run in the cluster shop-dev-cluster"),
        (START.replace("CLUSTER", "shop-staging-jobs"), ""),
        (START.replace("CLUSTER", "shop-jobs"), ""),
        (f"{START.replace('CLUSTER', 'shop-dev-c')}\n{START.replace('CLUSTER', 'shop-staging-c')}", ""),
    ],
)
def test_a_migration_runs_here_and_to_its_end(migrate: str, what: str) -> None:
    wrong = found(UPDATE, migrate=migrate)
    assert len(wrong) == bool(what), wrong
    assert all(what in each for each in wrong)


@pytest.mark.parametrize(
    ("push", "tag", "count"),
    [
        ("docker push $R/shop-api:$GITHUB_SHA", "${{ github.sha }}", 1),
        ("docker push $R/shop-jobs:$GITHUB_SHA", "${{ github.sha }}", 0),
        ("docker push $R/shop-api:$GITHUB_SHA\ndocker push $R/$name:$T", "${{ github.sha }}", 0),
        ("docker push $R/shop-api:latest", "${{ github.sha }}", 0),
        ("docker push $R/shop-api:$GITHUB_SHA", "${{ vars.JOBS_TAG }}", 0),
    ],
)
def test_an_image_has_the_commit_only_if_something_pushes_it(
    read: Read, push: str, tag: str, count: int
) -> None:
    run = f'jq --arg tag {tag} \'.containerDefinitions[0].image |= sub(":[^:]+$"; ":" + $tag)\' jobs.json'
    data = workflow(build={"steps": [{"run": push}]}, deploy=deploy(steps=[{"run": f"echo jobs\n{run}"}]))
    groups = {"shop-api": ["api"], "shop-jobs": ["jobs"]}
    wrong = delivered(repository(data), PLAN, groups, read_definitions(read(""), []), "shop-cluster")
    assert sum("no workflow pushes shop-jobs" in each.what for each in wrong) == count, wrong


def carried(run: str, on: str = "ubuntu-24.04") -> Examined:
    data = workflow(deploy=deploy(**{"runs-on": on}, steps=[{"run": run}]))
    data["on"]["push"] = {"branches": ["staging"]}
    return uncarried(repository(data), PLAN, "shop-staging-cluster")[1]


@pytest.mark.parametrize(
    ("run", "count"),
    [
        (f'{UPDATE} --desired-count "${{COUNT:-0}}"', 1),
        (f'{UPDATE} --desired-count "${{COUNT:-2}}"', 0),
        (f'COUNT=2\n{UPDATE} --desired-count "${{COUNT:-0}}"', 0),
        (f'export COUNT="$1"\n{UPDATE} --desired-count "${{COUNT:-0}}"', 0),
    ],
)
def test_a_count_of_none_may_be_a_default(run: str, count: int) -> None:
    assert sum("stops its service" in each.what for each in carried(run).findings) == count


@pytest.mark.parametrize(
    ("run", "count"),
    [
        (f"git checkout main\ndocker build .\n{UPDATE}", 1),
        (f"git switch main\ndocker build .\n{UPDATE}", 1),
        (f"git checkout staging\ndocker build .\n{UPDATE}", 0),
        (f'git checkout "$GITHUB_SHA"\ndocker build .\n{UPDATE}', 0),
        (f"docker build .\ngit checkout pages\n{UPDATE}", 0),
        (f"git clone x\ncd x\ngit checkout main\ncd ..\ndocker build .\n{UPDATE}", 0),
        (f"git checkout scripts/migrate.sh\ndocker build .\n{UPDATE}", 0),
    ],
)
def test_a_build_takes_the_branch_that_was_pushed(run: str, count: int) -> None:
    assert sum("builds the branch" in each.what for each in carried(run).findings) == count


@pytest.mark.parametrize(("where", "count"), [("top", 0), ("own", 0), ("other", 1)])
def test_a_variable_of_another_job_has_no_value(where: str, count: int) -> None:
    env = {"env": {"PLACE": "x"}}
    job = deploy(**{"runs-on": "ubuntu-24.04"}, steps=[{"run": "set -u\necho $PLACE"}])
    data = workflow(build={"steps": [{"run": "make"}], **(env if where == "other" else {})},
                    deploy=job | (env if where == "own" else {}))  # fmt: skip
    repo = repository(data | (env if where == "top" else {}))
    (of,) = repo.workflows.values()
    assert len(Expansion(repo, of).unset(of.jobs["deploy"])) == (where == "other")
    assert ("PLACE" in of.around(of.jobs["deploy"], repo.script(of.path) or "")) or where != "own"
    assert ("PLACE: x" in of.around(of.jobs["deploy"], repo.script(of.path) or "")) == (where != "other")


@pytest.mark.parametrize(
    "text",
    [
        "jobs:\n  build:\n    runs-on: x\n  deploy:\n    runs-on: x\nenv:\n  PLACE: x\n",
        "jobs:\n  deploy:\n    runs-on: x\n  build:\n    runs-on: x\n# all jobs\nenv:\n  PLACE: x\n",
        "jobs:\n  build:\n    env: &e { PLACE: x }\n    runs-on: x\n  deploy:\n    env: *e\n    runs-on: x\n",
    ],
)
def test_a_variable_that_a_job_shares_has_a_value(text: str) -> None:
    repo = Repository.read([W], {W: f"on: push\n{text}"}.get)
    of = repo.workflows[W]
    assert "PLACE: x" in of.around(of.jobs["deploy"], repo.script(W) or "")


def test_another_job_may_print_the_way_back() -> None:
    notify = {"runs-on": "x", "steps": [{"run": "echo aws ecs update-service --service api"}]}
    built = [{"uses": "docker/build-push-action@v6"}, {"run": "docker build .\necho docker push x:1"}]
    data = workflow(notify=notify, build={"runs-on": "x", "steps": built})
    assert ineffective(repository(data), PLAN, FAMILIES) == []


ON_PUSH = {"push": {"branches": ["main"]}, "workflow_dispatch": {"inputs": {"build": {"type": "boolean"}}}}
BUILDS = "docker build -t r/shop-api:1 ."


@pytest.mark.parametrize(
    ("condition", "skipped"),
    [
        ("github.event_name == 'workflow_dispatch'", True),
        ("inputs.build", True),
        ("github.ref == 'refs/heads/release'", True),
        ("github.event_name != 'pull_request'", False),
        ("steps.exists.outputs.found != 'true'", False),
        ("vars.BUILD == 'true'", False),
        ("", False),
    ],
)
def test_a_push_builds_the_image_and_updates_the_service(condition: str, skipped: bool) -> None:
    unless = {"if": condition} if condition else {}
    for build, update, what in (
        (unless, {}, "no image is built"),
        ({}, unless, "the service is not updated"),
    ):
        data = workflow(
            build={"runs-on": "x", "steps": [{"run": BUILDS, **build}]},
            deploy=deploy(steps=[{"run": UPDATE, **update}]),
        ) | {"on": ON_PUSH}
        said = [each.what for each in ineffective(repository(data), PLAN, FAMILIES)]
        assert said == [f"on a push {what}: its step is skipped"] * skipped


def test_a_push_to_one_of_its_branches_may_only_be_tested() -> None:
    on = {"push": {"branches": ["main", "develop"]}}
    for branch, skipped in (("main", False), ("release", True)):
        only = {"if": f"github.ref == 'refs/heads/{branch}'"}
        data = workflow(all=deploy(steps=[{"run": BUILDS}, {"run": UPDATE, **only}])) | {"on": on}
        said = [each.what for each in ineffective(repository(data), PLAN, FAMILIES)]
        assert said == ["on a push the service is not updated: its step is skipped"] * skipped


def test_a_push_may_build_in_another_workflow_and_deploy_in_another_way() -> None:
    manual = {"if": "github.event_name == 'workflow_dispatch'"}
    steps = [{"run": UPDATE, **manual}, {"run": "aws deploy create-deployment --application-name a"}]
    built = {"runs-on": "x", "steps": [{"run": BUILDS, **manual}]}
    data = workflow(build=built, deploy=deploy(steps=steps)) | {"on": ON_PUSH}
    other = {"on": "push", "jobs": {"image": {"runs-on": "x", "steps": [{"run": BUILDS}]}}}
    files = repository(data, **{".github/workflows/image.yml": yaml.safe_dump(other)})
    assert ineffective(files, PLAN, FAMILIES) == []


@pytest.mark.parametrize(
    ("rules", "goals", "blamed"),
    [
        ("migrate:\n\tscripts/migrate.sh\n", "migrate", True),
        ("migrate: # all of them\n\tscripts/migrate.sh\n", "-s migrate", False),
        (".PHONY: smoke \\\n  migrate\nmigrate:\n\tscripts/migrate.sh\n", "migrate", False),
        (".PHONY: $(ALL)\nmigrate:\n\tscripts/migrate.sh\n", "migrate", False),
        ("migrate: build\n\tscripts/migrate.sh\n", "migrate", False),
        ("migrate::\n\tscripts/migrate.sh\n", "migrate", False),
        ("include x.mk\nmigrate:\n\tscripts/migrate.sh\n", "migrate", False),
        ("migrate:\n\tscripts/migrate.sh\nmigrate: build\n", "migrate", False),
        ("up:\n\tscripts/migrate.sh\n", "up", False),
    ],
)
def test_make_runs_no_rule_for_what_is_there(rules: str, goals: str, blamed: bool) -> None:
    said = found(UPDATE, migrate=f"make {goals}", Makefile=rules, **{"migrate/1.sql": ""})
    assert [each for each in said if "`make" in each] == [
        "`make migrate` does nothing: migrate is there, and its rule needs nothing newer"
    ] * blamed


@pytest.mark.parametrize(
    ("run", "files"),
    [
        ("cd api && make migrate", {}),
        ("pushd api\nmake migrate", {}),
        ("rm -r migrate\nmake migrate", {}),
        ("make migrate", {"GNUmakefile": ".PHONY: migrate\nmigrate:\n\tscripts/migrate.sh\n"}),
        ("make migrate", {"makefile": ".PHONY: migrate\nmigrate:\n\tscripts/migrate.sh\n"}),
    ],
)
def test_make_may_run_elsewhere_or_read_another_file(run: str, files: dict[str, str]) -> None:
    rules = {"Makefile": "migrate:\n\tscripts/migrate.sh\n", "migrate/1.sql": "", **files}
    assert not [each for each in found(UPDATE, migrate=run, **rules) if "`make" in each]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('sed "s|__TAG__|$T|g" task.json', []),
        ("sed -i 's/@TAG@/1/' task.json", ["sed changes nothing: task.json has no @TAG@"]),
        ('sed "s/TAG/$T/" task.json', []),
        ('sed "s|:.*|:$T|" task.json', []),
        ("sed 's/@TAG@/1/' other.json", []),
        (
            "t=1\nsed 's/TAG/$t/' task.json",
            ["sed's replacement is literally s/TAG/$t/: single quotes keep the variable as it is written"],
        ),
        ("t=1\nsed 's/__TAG__/$t/' task.json | envsubst", []),
        ("t=1\nsed -n '$t' a.json", []),
        ("t=1\nsed 's/a$t/b/' a.json", []),
        ("sed 's/__TAG__/$HOME/' task.json", []),
        ("cp a.json task.json\nsed 's/@TAG@/1/' task.json", []),
        ("jq . a.json >task.json\nsed 's/@TAG@/1/' task.json", []),
        ("git checkout v1 -- task.json\nsed 's/@TAG@/1/' task.json", []),
        ("git checkout v1\nsed 's/@TAG@/1/' task.json", []),
        ("sed -i 's/:.*/:@TAG@/' task.json\nsed -i 's/@TAG@/1/' task.json", []),
        ("sed -i 's/@LEVEL@/info/' task.json", []),
        ("t=1\nsed 's/__TAG__/\\$t/' task.json", []),
    ],
)
def test_sed_finds_its_placeholder(line: str, said: list[str]) -> None:
    files = {"task.json": '{"image": "shop-api:__TAG__"}\n', "a.json": "{}\n"}
    assert found(f"{line}\n{UPDATE}", **files) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"service": "shop-staging-api", "cluster": "shop-staging-cluster"}, []),
        ({"service": "shop-staging-api", "cluster": "${{ vars.CLUSTER }}"}, []),
        ({"service": "shop-staging-api"}, ["a service of shop-staging is looked for in the cluster default"]),
        ({"task-definition": "api.json"}, []),
    ],
)
def test_an_action_deploys_into_this_cluster(given: dict[str, str], said: list[str]) -> None:
    step = {"uses": "aws-actions/amazon-ecs-deploy-task-definition@v2", "with": given}
    data = workflow(deploy=deploy(steps=[step]))
    assert [each.what for each in ineffective(repository(data), PLAN, FAMILIES)] == said


CREDENTIALS = {"uses": "aws-actions/configure-aws-credentials@v4", "with": {"role-to-assume": "r"}}
LOG_IN = {"uses": "aws-actions/amazon-ecr-login@v2"}
PUSHES = {"run": "docker build -t r/shop-api:1 .\ndocker push r/shop-api:1"}


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        ([CREDENTIALS, PUSHES], ""),
        ([CREDENTIALS, LOG_IN, PUSHES, CREDENTIALS], ""),
        ([PUSHES], ""),
        ([{"uses": "docker/login-action@v3"}, PUSHES, CREDENTIALS], ""),
        ([{"uses": "./.github/actions/aws"}, PUSHES, CREDENTIALS], ""),
        ([{**PUSHES, "env": {"AWS_ACCESS_KEY_ID": "x"}}, CREDENTIALS], ""),
        ([{"run": "docker push localhost:5000/shop-api:1"}, CREDENTIALS, PUSHES], ""),
        ([{**PUSHES, "if": False}, CREDENTIALS, PUSHES], ""),
        ([{**CREDENTIALS, "if": "vars.OIDC == 'true'"}, PUSHES], ""),
        (
            [PUSHES, CREDENTIALS],
            "this step needs aws-actions/configure-aws-credentials, which runs only later",
        ),
        (
            [CREDENTIALS, PUSHES, LOG_IN],
            "this step needs aws-actions/amazon-ecr-login, which runs only later",
        ),
        (
            [{**CREDENTIALS, "if": False}, PUSHES],
            "this step needs aws-actions/configure-aws-credentials, which is always skipped",
        ),
    ],
)
def test_a_step_has_the_credentials_that_it_needs(steps: list[dict[str, Any]], what: str) -> None:
    for machine in ("ubuntu-24.04", "self-hosted"):
        data = workflow(build={"runs-on": machine, "steps": steps})
        said = [each.what for each in ineffective(repository(data), PLAN, FAMILIES)]
        assert said == [what] * (bool(what) and machine != "self-hosted")


BUILD = "docker build -t local:$T .\n"
PUSHED = '\ndocker push "$R/shop-api:$T"'


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (f'{BUILD}docker tag node:22 "$R/shop-api:$T"{PUSHED}', "node gets the name that is pushed"),
        (f'{BUILD}docker tag local:$T "$R/shop-api:$T"{PUSHED}', ""),
        (f'{BUILD}docker pull node:22\ndocker tag node:22 "$R/shop-api:$T"{PUSHED}', ""),
        (f'{BUILD}docker tag "$ID" "$R/shop-api:$T"{PUSHED}', ""),
        (f'{BUILD}docker tag local:$T other\ndocker tag other "$R/shop-api:$T"{PUSHED}', ""),
        (f'docker build -t "$NAME" .\ndocker tag node:22 "$R/shop-api:$T"{PUSHED}', ""),
        (f'{BUILD}docker push local:$T\ndocker tag proxy:1 "$R/shop-api:$T"{PUSHED}', ""),
    ],
)
def test_the_image_that_is_built_is_the_one_that_is_tagged(build: str, what: str) -> None:
    wrong = found(UPDATE, build=build)
    assert len(wrong) == bool(what), wrong
    assert all(what in each for each in wrong)
