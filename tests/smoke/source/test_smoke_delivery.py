"""Deploy jobs deliver the pushed tag to the service's container, in a complete task definition."""

from typing import Any

import pytest

from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.pipeline.delivery import delivered
from smoke.source.pipeline.expansion import MOST, Expansion
from smoke.source.pipeline.rollout import misdelivered
from tests.smoke.source.terraform_files import Read
from tests.smoke.source.workflow_files import PLAN, W, deploy, repository, workflow

GROUPS = {"shop-api": ["api"], "shop-jobs": ["jobs"]}
TERRAFORM = """
resource "aws_ecs_task_definition" "api" {
  family             = "shop-api"
  cpu                = 256
  execution_role_arn = aws_iam_role.api.arn
  container_definitions = jsonencode([
    { name = "api", image = "registry/shop-api:${var.tag}", secrets = [{ name = "K", valueFrom = "arn" }] },
    { name = "proxy", image = "envoy:1.30" },
  ])
}
resource "aws_ecs_service" "api" { task_definition = aws_ecs_task_definition.api.arn }
"""
PUSH = 'docker build -t "$R/shop-api:$GITHUB_SHA" .\ndocker push "$R/shop-api:$GITHUB_SHA"'
DEPLOY = """\
set -euo pipefail
tag=${2:?}
next=$(aws ecs describe-task-definition | jq --arg tag "$tag" '.taskDefinition | FILTER')
arn=$(aws ecs register-task-definition --cli-input-json "$next")
aws ecs update-service --cluster C --service "$1" --task-definition "$arn"
"""
FILTER = '.containerDefinitions[0].image |= sub(":[^:]+$"; ":" + $tag)'


def found(
    read: Read, tag: str = "${{ github.sha }}", filter_: str = FILTER, push: str = PUSH, script: str = DEPLOY,
    **others: Any,
) -> list[str]:  # fmt: skip
    build = {"steps": [{"run": push}]}
    jobs = {"deploy": deploy(steps=[{"run": f'scripts/deploy.sh api "{tag}"'}])}
    data = workflow(build=build, **jobs) | {"env": {"R": "1.dkr.ecr.us-east-1.amazonaws.com"}}
    files = {"scripts/deploy.sh": script.replace("FILTER", filter_), **others}
    defined = read_definitions(read(TERRAFORM), ["api"])
    return list(map(str, delivered(repository(data, **files), PLAN, GROUPS, defined, "shop-cluster")))


@pytest.mark.parametrize(
    ("tag", "push"),
    [
        ("${{ github.sha }}", PUSH),
        ("$GITHUB_SHA", PUSH),
        ("${{ vars.API_TAG }}", PUSH),
        ("${{ inputs.tag || github.sha }}", PUSH),
        ("${GITHUB_SHA::8}", 'tag=$(git rev-parse --short HEAD)\ndocker push "$R/shop-api:$tag"'),
        ("${GITHUB_SHA::7}", PUSH.replace("$GITHUB_SHA", "${GITHUB_SHA:0:7}")),
        ("${{ github.sha }}", f'{PUSH}\ndocker push "$R/shop-api:latest"'),
        ("${{ github.sha }}", 'tag=$(git rev-parse HEAD)\ndocker push "$R/shop-api:$tag"'),
        ("${{ github.sha }}", "if $X; then tag=$GITHUB_SHA; else tag=dev; fi\ndocker push $R/shop-api:$tag"),
        ("${{ github.sha }}", 'for t in $TAGS latest; do docker push "$R/shop-api:$t"; done'),
        ("${{ github.sha }}", "docker push --all-tags $R/shop-api"),
        ("${{ github.sha }}", 'crane cp a "$R/shop-api:x"\ndocker push "$R/shop-api:latest"'),
        ("${{ github.sha }}", 'docker push "$R/another:latest"'),
        ("${GITHUB_SHA::7}", "echo built elsewhere"),
        ("0123abc", "echo built elsewhere"),
    ],
)
def test_what_is_pushed_may_be_deployed(read: Read, tag: str, push: str) -> None:
    assert found(read, tag, push=push) == []


@pytest.mark.parametrize(
    ("tag", "push", "what"),
    [
        (
            "${GITHUB_SHA::7}",
            PUSH,
            "shop-api:«github.sha»[:7] is deployed, but the workflow pushes «github.sha»",
        ),
        ("${{ github.sha }}", 'docker push "$R/shop-api:latest"', "the workflow pushes latest"),
        ("${{ github.run_number }}", PUSH, "but the tag is not a commit"),
        ("latest", PUSH, "shop-api:latest is deployed, but the tag is not a commit"),
        ("staging", "echo built elsewhere", "but the tag is not a commit"),
    ],
)
def test_another_tag_is_a_finding(read: Read, tag: str, push: str, what: str) -> None:
    (one,) = found(read, tag, push=push)
    assert one.startswith("scripts/deploy.sh:3: ")
    assert what in one


def test_another_workflow_may_push_as_well(read: Read) -> None:
    other = {"on": "push", "jobs": {"build": {"steps": [{"run": PUSH.replace("$GITHUB_SHA", "$X")}]}}}
    assert found(read, "${GITHUB_SHA::7}", other=other) == []


@pytest.mark.parametrize(
    "filter_",
    [
        "del(.taskDefinitionArn, .revision, .status) | " + FILTER,
        FILTER + " | {family, cpu, executionRoleArn, containerDefinitions}",
        FILTER + " | del(.containerDefinitions[1].secrets)",
        FILTER + ' | del(.containerDefinitions[0].environment[] | select(.name == "DEBUG"))',
        FILTER + " | del(.containerDefinitions[0].secrets) | .containerDefinitions[0].secrets = $secrets",
        '(.containerDefinitions[] | select(.name == "api") | .image) |= sub(":.*$"; ":" + $tag)',
        '.containerDefinitions |= map(if .name == "api" then .image = $tag else . end)',
        '.containerDefinitions[0].image |= sub(":latest"; ":" + $tag)',
        '.containerDefinitions[-2].image = "registry/shop-api:" + $tag',
    ],
)
def test_a_filter_may_rewrite_a_definition(read: Read, filter_: str) -> None:
    assert found(read, filter_=filter_) == []


@pytest.mark.parametrize(
    ("filter_", "what"),
    [
        (FILTER + " | {family, cpu, containerDefinitions}", "has no executionRoleArn"),
        (FILTER + " | del(.containerDefinitions[].secrets)", "has no secrets"),
        (FILTER + " | .containerDefinitions[0].secrets = []", "has no secrets"),
        (FILTER.replace("[0]", "[1]"), "given to container 1, which belongs to another service"),
        (FILTER.replace("[0]", "[]"), "given to container 1, which belongs to another service"),
        (FILTER.replace("[0]", "[2]"), "given to container 2, which does not exist"),
        ('.containerDefinitions[0].image |= sub(":.*$"; ":latest")', "shop-api:latest is deployed"),
    ],
)
def test_a_definition_that_loses_something_is_a_finding(read: Read, filter_: str, what: str) -> None:
    (one,) = found(read, filter_=filter_)
    assert one.startswith("scripts/deploy.sh:3: ")
    assert what in one


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("FILTER", FILTER + " | {family, cpu, containerDefinitions}", "has no executionRoleArn"),
        ('--cli-input-json "$next"', '--cli-input-json "$next" --execution-role-arn "$ROLE"', ""),
        ('--task-definition "$arn"', '--task-definition "$1:7"', "a fixed revision"),
        ('--task-definition "$arn"', '--task-definition "$1"', ""),
        ("describe-task-definition |", "describe-task-definition --task-definition shop-$1 |", ""),
        ('--cluster C --service "$1"', '--cluster "$CLUSTER" --service "shop-$1"', ""),
        ('--cluster C --service "$1"', '--cluster shop-cluster --service "shop-$1"', ""),
    ],
)
def test_what_the_commands_say_counts(read: Read, old: str, new: str, what: str) -> None:
    filter_ = FILTER + " | {family, cpu, containerDefinitions}" if "role" in new else FILTER
    one = found(read, filter_=filter_, script=DEPLOY.replace(old, new))
    assert [what in each for each in one] == [True] * bool(what)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"$next"', '"$(aws ecs describe-task-definition --task-definition $1)"', "is registered again"),
        ("FILTER", ".containerDefinitions[0].image = $tag", "a tag without its repository"),
        ("FILTER", '.containerDefinitions[0].image = "shop-api:" + $tag', ""),
        (
            '--arg tag "$tag"',
            '--arg image "$R/shop-jobs:$tag"',
            "image of another service is deployed: shop-jobs",
        ),
        ('--arg tag "$tag"', '--arg image "$R/shop-api:$tag"', ""),
        ('--service "$1"', '--service "Shop_api"', "there is no service Shop_api: it is called shop-api"),
        ('--service "$1"', '--service "other_service"', ""),
        (
            "aws ecs update-service",
            "if false; then\n:\naws ecs update-service",
            "the service is never updated",
        ),
        ("aws ecs update-service", 'if [ "$1" = api ]; then\n:\naws ecs update-service', ""),
    ],
)
def test_what_a_script_deploys_is_its_own(read: Read, old: str, new: str, what: str) -> None:
    image = ".containerDefinitions[0].image = $image" if "--arg" in old else FILTER
    script = DEPLOY.replace(old, new).replace("FILTER", image)
    script += "fi\n" if "then" in new else ""
    assert [each for each in found(read, script=script) if what and what in each] or not what
    assert what or found(read, script=script) == []


def test_a_sidecar_may_have_the_image_of_another_service(read: Read) -> None:
    sidecar = TERRAFORM.replace('"envoy:1.30"', '"registry/shop-jobs:${var.tag}"')
    data = workflow(deploy=deploy(steps=[{"run": 'scripts/deploy.sh api "$GITHUB_SHA"'}]))
    filter_ = '(.containerDefinitions[] | select(.name == "proxy") | .image) = $image'
    script = DEPLOY.replace('--arg tag "$tag"', '--arg image "$R/shop-jobs:$tag"').replace("FILTER", filter_)

    def said(terraform: str) -> list[str]:
        defined = read_definitions(read(terraform), ["api"])
        files = repository(data, **{"scripts/deploy.sh": script})
        found = delivered(files, PLAN, GROUPS, defined, "shop-cluster")
        return [each.what for each in found if "another service" in each.what]

    assert said(sidecar) == []
    assert len(said(TERRAFORM)) == 1


def test_a_service_is_given_its_own_definition(read: Read) -> None:
    jobs = TERRAFORM.replace('"api"', '"jobs"').replace("definition.api", "definition.jobs")
    defined = read_definitions(read(TERRAFORM, jobs), ["api", "jobs"])
    script = "aws ecs describe-task-definition --task-definition {}\naws ecs update-service --service {}"

    def said(*runs: tuple[str, str]) -> list[str]:
        steps = [{"run": script.format(*run)} for run in runs]
        data = workflow(deploy=deploy(steps=steps))
        found = delivered(repository(data), PLAN, GROUPS, defined, "shop-cluster")
        return [each.what for each in found]

    assert said(("shop-api", "shop-api")) == said(("shop-api", "shop-api"), ("shop-jobs", "shop-jobs")) == []
    assert said(("base", "shop-api")) == said(("$X", "shop-api")) == []
    (what,) = said(("shop-api", "shop-jobs"))
    assert what.startswith("shop-jobs is given the task definition of shop-api")


def test_variables_are_followed_from_job_to_job() -> None:
    build = {
        "outputs": {"tag": "${{ steps.t.outputs.tag }}"},
        "steps": [{"id": "t", "run": 'echo "tag=v${GITHUB_SHA:0:7}" >> "$GITHUB_OUTPUT"'}],
    }
    script = (
        'name=${1:-api}; shift\nread answer\nsay() { echo "$1-$name"; }\n'
        'echo "$1" "$answer" "${X:-none}"; say hello'
    )
    steps = [
        {"run": "echo P=shop >> $GITHUB_ENV"},
        {"run": "bash s.sh \"$P-x\" '${{ needs.build.outputs.tag }}'"},
    ]
    data = workflow(build=build, deploy=deploy(steps=steps))
    repo = repository(data, **{"s.sh": script, "scripts/x.sh": ""})
    flow = repo.workflows[W]
    said = [each for each in Expansion(repo, flow).commands(flow.jobs["deploy"]) if each.words[0] == "echo"]
    assert [each.words[1:] for each in said][1:] == [
        ("«github.sha»[:7]".join(["v", ""]), "$answer", "${X:-none}"),
        ("hello-shop-x",),
    ]
    assert (said[1].path, said[1].line) == ("s.sh", 4)


@pytest.mark.parametrize(
    ("name", "entries", "prefix", "count"),
    [
        ("deploy", {"environment": "production"}, "shop-staging", 1),
        ("deploy", {"environment": {"name": "Production", "url": "https://x"}}, "shop-staging", 1),
        ("deploy", {"environment": "staging"}, "shop-staging", 0),
        ("deploy", {"environment": "${{ inputs.environment }}"}, "shop-staging", 0),
        ("deploy", {"environment": "production"}, "shop-production", 0),
        ("deploy-production", {"environment": "production"}, "shop-staging", 0),
    ],
)
def test_a_deploy_job_has_no_secrets_of_production(
    name: str, entries: dict[str, Any], prefix: str, count: int
) -> None:
    job = deploy(**entries, steps=[{"run": f"aws ecs update-service --service {prefix}-api"}])
    data = workflow(**{"deploy": {"steps": [{"run": "make"}]}, name: job})
    wrong = [each.what for each in misdelivered(repository(data), PLAN, GROUPS)[1].findings]
    assert sum("secrets and variables" in each for each in wrong) == count, wrong


@pytest.mark.parametrize(
    ("tag", "count"),
    [
        ("${{ vars.FINN_TAG }}", 0),
        ("${{ vars.TAG }}", 0),
        ("${{ github.sha }}", 0),
        ("${{ vars.API_TAG }}", 1),
    ],
)
def test_each_leg_of_a_matrix_carries_its_own_image(tag: str, count: int) -> None:
    legs = [{"service": "api", "tag": "${{ github.sha }}"}, {"service": "finn", "tag": tag}]
    run = {"run": 'scripts/deploy.sh "${{ matrix.service }}" "${{ matrix.tag }}"'}
    job = deploy(strategy={"matrix": {"include": legs}}, steps=[run])
    images = {"shop-api": ["api"], "shop-finn": ["finn"]}
    found = misdelivered(repository(workflow(deploy=job)), PLAN, images)[1].findings
    assert sum("the image of another service" in each.what for each in found) == count, found


@pytest.mark.parametrize(
    ("run", "env", "count"),
    [
        ("terraform apply -var finn_tag=${{ vars.FINN_TAG }}", {}, 0),
        ("terraform apply", {"TF_VAR_finn_tag": "${{ vars.FINN_TAG }}"}, 0),
        ("scripts/deploy.sh api ${{ vars.FINN_TAG }}", {}, 1),
        ("scripts/deploy.sh api $TAG", {"TAG": "${{ vars.FINN_TAG }}"}, 1),
    ],
)
def test_terraform_is_given_the_images_of_all_services(run: str, env: dict[str, str], count: int) -> None:
    job = deploy(env=env, steps=[{"run": f"{run}\naws ecs wait services-stable --services shop-api"}])
    images = {"shop-api": ["api"], "shop-finn": ["finn"]}
    found = misdelivered(repository(workflow(deploy=job)), PLAN, images)[1].findings
    assert sum("the image of another service" in each.what for each in found) == count, found


def test_a_script_that_calls_itself_is_followed_so_far() -> None:
    run = {"steps": [{"run": "scripts/a.sh"}]}
    repo = repository(workflow(deploy=run), **{"scripts/a.sh": "scripts/a.sh\n" * 40})
    flow = repo.workflows[W]
    assert MOST <= len(Expansion(repo, flow).commands(flow.jobs["deploy"])) < MOST + 400


@pytest.mark.parametrize(
    ("tag", "blamed"),
    [
        ("${{ github.sha }}", False),
        ("${{ inputs.tag }}", False),
        ("$SOME_TAG", False),
        ("${{ vars.WORKER_TAG }}", True),
    ],
)
def test_services_of_one_image_run_one_build(read: Read, tag: str, blamed: bool) -> None:
    jobs = {f"deploy-{name}": deploy(steps=[{"run": f'scripts/deploy.sh {name} "{of}"'}])
            for name, of in (("api", "${{ github.sha }}"), ("worker", tag))}  # fmt: skip
    data = workflow(deploy=deploy(steps=[{"run": "true"}]), **jobs)
    repo = repository(data, **{"scripts/deploy.sh": DEPLOY.replace("FILTER", FILTER)})
    defined = read_definitions(read(TERRAFORM), ["api"])
    wrong = list(map(str, delivered(repo, PLAN, {"shop-api": ["api", "worker"]}, defined, "shop-cluster")))
    assert sum("two builds of one image" in each for each in wrong) == blamed, wrong


@pytest.mark.parametrize(
    ("cluster", "what"),
    [
        ("shop-cluster", ""),
        ("$CLUSTER", ""),
        ("tools", ""),  # another product's, by its name
        ("arn:aws:ecs:us-east-1:123456789012:cluster/shop-cluster", ""),
        ("shop-jobs", ""),  # which the files declare
        ("shop-main", "a migration is started in the cluster shop-main, not in shop-cluster"),
    ],
)
def test_migrations_run_where_the_services_do(read: Read, cluster: str, what: str) -> None:
    migrate = {"steps": [{"run": f'cluster="{cluster}"\naws ecs run-task --cluster "$cluster" --task a'}]}
    data = workflow(migrate=migrate)
    defined = read_definitions(read(TERRAFORM), ["api"])
    wrong = delivered(repository(data), PLAN, GROUPS, defined, "shop-cluster", ["shop-jobs"])
    assert [each.what for each in wrong] == [what] * bool(what)


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("github.event_name == 'workflow_dispatch'", 1),
        ("github.event_name == 'push'", 0),
        ("inputs.all", 1),
        ("vars.JOBS == 'on'", 0),
    ],
)
def test_a_push_deploys_all_services_of_one_image(read: Read, condition: str, count: int) -> None:
    def job(name: str) -> dict[str, Any]:
        return deploy(steps=[{"run": f"aws ecs update-service --service shop-{name}"}])

    data = workflow(deploy=job("api"), **{"deploy-jobs": job("jobs") | {"if": condition}})
    data["on"]["workflow_dispatch"]["inputs"] = {"all": {"type": "boolean", "default": False}}
    defined = read_definitions(read(TERRAFORM), ["api"])
    found = delivered(repository(data), PLAN, {"shop": ["api", "jobs"]}, defined, "shop-cluster")
    assert sum("a push does not run deploy-jobs" in each.what for each in found) == count


@pytest.mark.parametrize(("event", "count"), [("push", 0), ("workflow_run", 0), ("workflow_dispatch", 1)])
def test_another_workflow_may_deploy_a_service_of_the_image(read: Read, event: str, count: int) -> None:
    def job(name: str) -> dict[str, Any]:
        return deploy(steps=[{"run": f"aws ecs update-service --service shop-{name}"}])

    by_hand = job("jobs") | {"if": "github.event_name == 'workflow_dispatch'"}
    data = workflow(deploy=job("api"), **{"deploy-jobs": by_hand})
    other = {"on": {event: None}, "jobs": {"deploy": {"runs-on": "x", "steps": job("jobs")["steps"]}}}
    defined = read_definitions(read(TERRAFORM), ["api"])
    found = delivered(repository(data, other=other), PLAN, {"shop": ["api", "jobs"]}, defined, "shop-cluster")
    assert sum("a push does not run deploy-jobs" in each.what for each in found) == count


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ({"env": {"PREFIX": "shop-production"}}, "migrate carries shop-production, which is another"),
        ({"env": {"PREFIX": "shop-staging"}}, ""),
        (
            {"uses": "a/b@v1", "with": {"aws-region": "eu-west-1", "role-to-assume": "r"}},
            "the region eu-west-1",
        ),
        ({"uses": "a/b@v1", "with": {"aws-region": "us-east-1", "role-to-assume": "r"}}, ""),
        (
            {
                "uses": "a/b@v1",
                "with": {"aws-region": "eu-west-1", "role-to-assume": "r"},
                "env": {"AWS_REGION": "us-east-1"},
            },
            "",
        ),
    ],
)
def test_migrations_run_in_this_environment(step: dict[str, Any], what: str) -> None:
    own = {"run": "scripts/migrate.sh"} | step if "env" in step else step
    steps = [own] if "env" in step else [own, {"run": "scripts/migrate.sh"}]
    data = workflow(migrate={"steps": steps}) | {"env": {"AWS_REGION": "us-east-1", "P": "shop-staging"}}
    _, found = misdelivered(repository(data), PLAN, GROUPS, "us-east-1")
    assert [what in each.what for each in found.findings] == ([True] if what else [])


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("r/shop-api:${{ github.sha }}", ""),
        ("r/shop-jobs:${{ github.sha }}", "the image of another service is deployed: shop-jobs in place of"),
        ("${{ github.sha }}", "«github.sha» is a tag without its repository"),
        ("r/envoy:1", ""),
        ("${{ vars.IMAGE }}", ""),
    ],
)
def test_an_action_renders_the_image_of_its_service(read: Read, image: str, said: str) -> None:
    render = {"uses": "aws-actions/amazon-ecs-render-task-definition@v1", "with": {"image": image}}
    put = {"uses": "aws-actions/amazon-ecs-deploy-task-definition@v2", "with": {"service": "shop-api"}}
    defined = read_definitions(read(TERRAFORM), ["api"])
    data = workflow(deploy=deploy(steps=[render, put]))
    found = [each.what for each in delivered(repository(data), PLAN, GROUPS, defined, "shop-cluster")]
    assert [said in each for each in found] == [True] * bool(said)


@pytest.mark.parametrize(
    ("flag", "carried"), [(" --region eu-west-1", 1), (" --region us-east-1", 0), ("", 0)]
)
def test_a_deployment_names_the_region_of_the_profile(flag: str, carried: int) -> None:
    run = f"aws ecs update-service --service shop-api{flag}"
    _, found = misdelivered(
        repository(workflow(deploy=deploy(steps=[{"run": run}]))), PLAN, GROUPS, "us-east-1"
    )
    said = [each.what for each in found.findings]
    assert said == ["deploy carries the region eu-west-1, the profile has us-east-1"] * carried


@pytest.mark.parametrize(
    ("line", "carried"),
    [
        ("export AWS_REGION=eu-west-1 AWS_DEFAULT_REGION=eu-west-1", 1),
        ("AWS_DEFAULT_REGION='eu-west-1'", 1),
        ("export AWS_REGION=us-east-1", 0),
        ('export AWS_REGION="${AWS_REGION:-eu-west-1}"', 0),
        ("AWS_REGION=eu-west-1 aws ecr describe-repositories", 0),
        ("if false; then\n  export AWS_REGION=eu-west-1\nfi", 0),
    ],
)
def test_a_script_may_set_its_region(line: str, carried: int) -> None:
    script = {"scripts/deploy.sh": f"{line}\naws ecs update-service --service shop-api\n"}
    data = workflow(deploy=deploy(steps=[{"run": "scripts/deploy.sh"}]))
    _, found = misdelivered(repository(data, **script), PLAN, GROUPS, "us-east-1")
    said = [each.what for each in found.findings]
    assert said == ["deploy carries the region eu-west-1, the profile has us-east-1"] * carried


@pytest.mark.parametrize(("kind", "refused"), [("CODE_DEPLOY", True), ("ECS", False)])
def test_only_codedeploy_updates_what_it_owns(read: Read, kind: str, refused: bool) -> None:
    controller = f'  deployment_controller {{\n    type = "{kind}"\n  }}\n'
    text = TERRAFORM.replace('"api" { task_definition', f'"api" {{\n{controller}  task_definition')
    data = workflow(deploy=deploy(steps=[{"run": 'scripts/deploy.sh api "$GITHUB_SHA"'}]))
    defined = read_definitions(read(text.replace("api.arn }", "api.arn\n}")), ["api"])
    files = {"scripts/deploy.sh": DEPLOY.replace("FILTER", FILTER)}
    found = delivered(repository(data, **files), PLAN, GROUPS, defined, "shop-cluster")
    assert any("only CodeDeploy may change it" in each.what for each in found) is refused


BY_NAME = '(.containerDefinitions[] | select(.name == "app") | .image) |= sub(":.*$"; ":" + $tag)'


@pytest.mark.parametrize(
    ("filter_", "what"),
    [
        ('.containerDefinitions[0].image |= sub("@.*$"; ":" + $tag)', "@.*$ does not match the tag"),
        ('.containerDefinitions[0].image |= sub("(?<tag>:[^:]+)$"; ":" + $tag)', ""),
        (f'.containerDefinitions[0].image |= sub("@.*$"; "") | {FILTER}', ""),
        ('.containerDefinitions[] | select(.name == "app") | .image', ""),
        (BY_NAME, "no container is called app"),
        (f"{BY_NAME} | {BY_NAME.replace('app', 'api')}", ""),
    ],
)  # fmt: skip
def test_a_filter_changes_an_image_of_the_task(read: Read, filter_: str, what: str) -> None:
    said = found(read, filter_=filter_)
    assert [what in each for each in said] == [True] * bool(what), said


@pytest.mark.parametrize(
    ("push", "what"),
    [
        ('t=$(git rev-parse --short HEAD)\ndocker push "$R/shop-api:$t"', "pushes «github.sha»[:7+]"),
        ('t=$(git rev-parse --short=10 HEAD)\ndocker push "$R/shop-api:$t"', "pushes «github.sha»[:10]"),
        ('t=$(echo "$GITHUB_SHA" | cut -c1-8)\ndocker push "$R/shop-api:$t"', "pushes «github.sha»[:8]"),
        ('t=$(printf %s "$GITHUB_SHA" | head -c 8)\ndocker push "$R/shop-api:$t"', "«github.sha»[:8]"),
        ('t=$(git describe --always)\ndocker push "$R/shop-api:$t"', ""),
    ],
)
def test_a_short_commit_is_another_tag(read: Read, push: str, what: str) -> None:
    said = found(read, push=push)
    assert [what in each for each in said] == [True] * bool(what), said
