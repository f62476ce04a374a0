"""Images that cannot be built or do not fit their tasks, and images that only look that way."""

from typing import Any

import pytest

from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.pipeline.programs import started_migrations, unfit_images
from smoke.source.scripts.dockerfiles import read as read_dockerfile
from tests.smoke.source.terraform_files import Read
from tests.smoke.source.workflow_files import repository, workflow

GROUPS = {"shop-api": ["api", "worker"], "shop-finn": ["finn"], "shop-server": ["server"]}
TASK = """
resource "aws_ecs_task_definition" "{name}" {{
  family = "shop-{name}"
  {more}
  container_definitions = jsonencode([{{ name = "{name}", image = "registry/{image}:${{var.tag}}", {box} }}])
}}
"""
SERVICE = 'resource "aws_ecs_service" "{name}" {{ task_definition = aws_ecs_task_definition.{name}.arn }}\n'
PORT = "portMappings = [{ containerPort = 3000 }]"
WORKER, MIGRATE = 'command = ["node", "worker.js"]', 'command = ["node", "migrate.js"]'
FILE = """\
FROM node:22 AS build
WORKDIR /app
COPY package.json ./
COPY src ./src
RUN npm install

FROM node:22
COPY --from=build /app .
USER node
EXPOSE 3000
CMD ["node", "server.js"]
"""
BUILD = 'docker build -t "$R/shop-api:$GITHUB_SHA" .'
FILES = {"package.json": '{"scripts": {"start": "node server.js"}}', "src/a.js": "a"}


def judged(
    read: Read, *, build: str = BUILD, more: str = "", every: str = "", step: Any = None, **given: str
) -> list[str]:
    """What is found of images and of migrations; "? " stands before what is not examined.

    `given` are files, and the rest of the containers of `api`, `worker` and `migration`.
    """
    boxes = {name: given.pop(name, own) for name, own in
             (("api", PORT), ("worker", WORKER), ("migration", MIGRATE))}  # fmt: skip
    text = "".join(
        TASK.format(name=name, image="shop-api", box=box, more=more if name == "api" or every else "")
        for name, box in boxes.items()
    )
    text += "".join(SERVICE.format(name=name) for name in ("api", "worker"))
    steps = [{"uses": "actions/checkout@v4"}, step or {"run": build}]
    data = workflow(build={"runs-on": "ubuntu-24.04", "steps": steps}) | {"env": {"R": "registry.io"}}
    files = {"Dockerfile": FILE, **FILES, **{name.replace("__", "/"): text for name, text in given.items()}}
    checkout = repository(data, **files)
    defined = read_definitions(
        read('variable "tag" {}\nvariable "unset" {}', text), ["api", "worker", "migration"]
    )
    found = [unfit_images(checkout, GROUPS, defined)]
    found.append(started_migrations(checkout, GROUPS, defined, ["migration"]))
    return [*(str(each) for one in found for each in one.findings),
            *(f"? {each}" for one in found for each in one.not_examined)]  # fmt: skip


def of(find: str, replacement: str) -> dict[str, str]:
    assert find in FILE
    return {"Dockerfile": FILE.replace(find, replacement)}


ARM = 'runtime_platform {\n    cpu_architecture = "ARM64"\n  }'
OWN_PORT = f'{PORT}, environment = [{{ name = "PORT", value = "3000" }}]'
OWN = 'command = ["node", "w.js"]'
ENTRY = of("CMD", 'COPY entry.sh /\nENTRYPOINT ["/entry.sh"]\nCMD')


@pytest.mark.parametrize(
    "given",
    [
        {},
        of("FROM node:22\n", "ARG V=22\nFROM node:${V:-22}\n".replace("ARG V=22\n", "")),
        of("--from=build", "--from=0"),
        of("COPY src ./src", 'COPY\t["src", "./src"]'),
        of("COPY src ./src", "COPY src ./src\nCOPY <<EOF /app/build.json\n{}\nEOF"),
        of('["node", "server.js"]', "[ -f server.js ] && node server.js"),
        of("--from=build", "--from=nginx:1.27"),
        of("--from=build", "--from=composer"),
        of("RUN npm install", "RUN <<EOF\nCMD is no instruction here\nEOF"),
        of("RUN npm install", "RUN npm install && \\\n  # a comment\n\n  npm test\nCMD of the first stage"),
        of("RUN npm install", "RUN --mount=type=cache,target=/x npm install"),
        of("package.json ./", "package*.json missing*.json ./"),
        of("package.json ./", "--link --chown=node:node ../package.json ./"),
        of("USER node", "RUN adduser shop\nUSER shop"),
        of("USER node", "USER 1000:1000"),
        of("EXPOSE 3000", "EXPOSE 3000/tcp 9090\nENV PORT=3000 A=b"),
        of("EXPOSE 3000", "EXPOSE $PORT"),
        of("EXPOSE 3000", "ENV DATABASE_URL=postgres://shop@db/shop"),
        {"Dockerfile": "# syntax=example.org/another\nBUILD all"},
        {".dockerignore": "*\n!package.json\n!src\n"},
        {".dockerignore": "# src\n**/node_modules\n*.md\n"},
        {"build": f"npm run dist\n{BUILD}", **of("COPY src ./src", "COPY dist ./dist")},
        {"build": BUILD.replace("build", "buildx build --cache-to type=gha,mode=max --load"), "more": ""},
        {"build": BUILD.replace("-t", "--platform linux/amd64,linux/arm64 -t"), "more": ARM},
        {"build": BUILD.replace("-t", "--platform linux/arm64 -t"), "more": ARM, "every": "yes"},
        {"build": BUILD.replace("-t", "--build-arg V=2 -t"), **of("FROM node:22 AS", "ARG V\nFROM a:$V AS")},
        {"build": BUILD.replace("-t", "--build-context base=. -t"), **of("--from=build", "--from=base")},
        {"build": f"(cd a && {BUILD})", "a__Dockerfile": FILE, "a__package.json": "", "a__src__b": ""},
        {"build": BUILD.removesuffix(".") + "- < Dockerfile"},
        {"build": BUILD.replace("shop-api", "another"), **of("USER node", "USER nobody-knows")},
        {"tools__finn__Dockerfile": "CMD a\nCMD b"},
        {"build": BUILD.replace("-t", "-f worker/Dockerfile -t"), "worker__Dockerfile": FILE},
        {"build": BUILD.replace("-t", "-f finn/Dockerfile --build-arg APP=api -t"), "finn__Dockerfile": FILE},
        {
            "build": BUILD.replace("-t", "-f finn/Dockerfile --target api -t"),
            "finn__Dockerfile": FILE.replace("FROM node:22\n", "FROM node:22 AS api\n"),
        },
        {"api": f'{PORT}, command = ["node", "a.js"]', **of('CMD ["node", "server.js"]', "")},
        {"Dockerfile": FILE.replace("FROM node:22\n", "FROM nginx\n").partition("CMD")[0]},
        {
            "worker": 'command = ["worker.js"]',
            "migration": 'command = ["migrate.js"]',
            **of('CMD ["node", ', 'ENTRYPOINT ["node"]\nCMD ['),
        },
        {"api": OWN_PORT, **of("EXPOSE", "ENV PORT=80\nEXPOSE")},
        {"entry.sh": 'echo "migrate.js is for the one-shot"\nexec "$@"', **ENTRY},
        {"worker": 'command = ["w.js"]', **of('CMD ["node", "server.js"]', 'ENTRYPOINT exec node "$@"')},
        {"package.json": '{"scripts": {"dist": "x"}}', **of("RUN npm install", "RUN npm i && npm run dist")},
        {"server.js": "", **of('"node", "server.js"', '"npm", "start"')},
        {"package-lock.json": "{}", **of("RUN npm install", "RUN npm ci")},
        {"build": f"npm install\n{BUILD}", **of("RUN npm install", "RUN npm ci")},
        of("RUN npm install", "RUN npm install && npm run dist --if-present"),
        of("RUN npm install", "RUN yarn && yarn run tsc"),
        {"package.json": '\ufeff{"scripts": {}}'},
        {"api": f'{PORT}, command = ["node", "a.js"]', "worker": OWN,
         "migration": MIGRATE, **of('CMD ["node", "server.js"]', 'ENTRYPOINT ["node", "with-secrets.js"]')},
        {"worker": 'command = ["--runtime", "node"]', "migration": 'command = ["--migrate"]',
         **of("CMD", "ENTRYPOINT")},
        {"migration": "command = var.unset", "api": f"{PORT}, command = var.unset"},
    ],
)  # fmt: skip
def test_what_docker_accepts_is_not_a_finding(read: Read, given: dict[str, Any]) -> None:
    assert judged(read, **given) == []


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (of("RUN npm", "RUNN npm"), "Dockerfile:5: there is no instruction RUNN"),
        (of("FROM node:22 AS build\n", ""), "WORKDIR comes before the first FROM"),
        (of("--from=build", "--from=builder"), "copies from builder, which is not an earlier stage"),
        (of("--from=build", "--from=1"), "copies from stage 1"),
        (of('["node", "server.js"]', "['node', 'server.js']"), "CMD is neither a list in JSON"),
        (of('"server.js"]', '"server.js",]'), "CMD is neither a list in JSON"),
        (of("FROM node:22\n", "FROM node:$V\n"), "nothing gives V a value"),
        (of("CMD", 'CMD ["node", "worker.js"]\nCMD'), 'a later CMD replaces this one, ["node", "worker.js"]'),
        (of("package.json ./", "package-lock.json ./"), "copies package-lock.json, which does not exist"),
        ({".dockerignore": "src\n"}, "Dockerfile:4: it copies src, which .dockerignore leaves out"),
        ({".dockerignore": "**/*.json\n"}, "copies package.json, which .dockerignore leaves out"),
        (of("USER node", "USER shop"), "shop-api runs as shop, a user that its base image lacks"),
        (of("EXPOSE", "ENV PORT=8080\nEXPOSE"), "shop-api has PORT=8080, but api listens on 3000"),
        (of("EXPOSE 3000", "EXPOSE 8080"), "? Dockerfile:10: shop-api exposes 8080, api listens on 3000"),
        (of("CMD", "HEALTHCHECK CMD nc http://localhost:81\nCMD"), "? Dockerfile:11: shop-api checks"),
        (of("EXPOSE", "ENV DB_URL=postgres://a:b@db/a\nEXPOSE"), "DB_URL of shop-api has a password"),
        ({"build": BUILD.replace("-t", "-f api.Dockerfile -t")}, "from api.Dockerfile, which does not exist"),
        ({"build": BUILD.replace("-t", "--target run -t")}, "with the target run, not a stage of Dockerfile"),
        ({"build": BUILD.replace("-t", "--platform linux/arm64 -t")}, "for arm64, but api runs on X86_64"),
        ({"build": BUILD.replace("-t", "--target build -t")}, "api runs nothing: neither"),
        (of('CMD ["node", "server.js"]', ""), "api runs nothing: neither shop-api nor"),
        (of("CMD", 'ENTRYPOINT ["node"]\nCMD'), "api runs node node server.js: there is no"),
        (
            {"build": BUILD.replace("-t", "-f finn/Dockerfile -t"), "finn__Dockerfile": FILE},
            "shop-api is built from finn/Dockerfile, which is for shop-finn",
        ),
        ({"more": ARM}, "built for amd64, but api runs on ARM64"),
        (of("FROM node:22\n", "FROM --platform=linux/arm64 node:22\n"), "for arm64, but api runs on X86_64"),
        ({"finn__Dockerfile": "FROM node:22\nRUNN x"}, "finn/Dockerfile:2: there is no instruction RUNN"),
        ({"worker": 'command = ["node", "server.js"]'}, "worker runs what api runs: node server.js"),
        ({"migration": 'command = ["node", "server.js"]'}, "migration runs what api runs: node server.js"),
        (of('"server.js"', '"migrate.js"'), "Dockerfile:11: api migrates when it starts: node migrate.js"),
        ({"entry.sh": 'node migrate.js\nexec "$@"', **ENTRY}, "entry.sh:1: api migrates when it starts"),
        ({"entry.sh": 'if $M; then node migrate.js; fi\nexec "$@"', **ENTRY}, "? entry.sh:1: whether api"),
        (
            {"package.json": '{"scripts": {"start": "node migrate.js; node server.js"}}',
             **of('"node", "server.js"', '"npm", "start"')},
            "api migrates when it starts: start is node migrate.js",
        ),
        (of('"node", "server.js"', '"npm", "run", "serve"'), "with npm run serve, but package.json has no"),
        ({"package.json": "{}", **of('"node", "server.js"', '"npm", "start"')}, "with npm start, but"),
        (of("RUN npm install", "RUN npm install && npm run dist"), "with npm run dist, but"),
        (of("RUN npm install", "RUN npm ci"), "npm ci of shop-api needs package-lock.json"),
        ({"package.json": "{,}"}, "package.json: it is not JSON, and shop-api is built with it"),
        (
            {"worker": OWN, **of('CMD ["node", "server.js"]', "ENTRYPOINT node server.js")},
            "worker runs what api runs: node server.js",
        ),
        (
            {"worker": OWN, **of("CMD", "ENTRYPOINT")},
            "worker ignores its command: node server.js node w.js",
        ),
    ],
)  # fmt: skip
def test_what_docker_refuses_or_never_runs_is_found(read: Read, given: dict[str, Any], what: str) -> None:
    found = judged(read, **given)
    assert found
    assert any(what in each for each in found), found


def test_an_action_builds_as_a_command_does(read: Read) -> None:
    given = {"tags": "registry.io/shop-api:1", "platforms": "linux/arm64", "push": True}
    found = judged(read, step={"uses": "docker/build-push-action@v6", "with": given})
    assert any("for arm64, but api runs on X86_64" in each for each in found)
    assert judged(read, step={"uses": "docker/build-push-action@v6", "with": given | {"platforms": ""}}) == []


def test_a_dockerfile_may_escape_lines_in_its_own_way() -> None:
    file = read_dockerfile("# escape=`\nFROM node:22 `\n  AS a\nRUN dir C:\\\nCMD x")
    assert file is not None
    assert [(each.name, each.line) for each in file.stages[0].instructions] == [("RUN", 4), ("CMD", 5)]
    assert file.stages[0].name == "a"


@pytest.mark.parametrize(
    ("program", "what"), [("dist/finn.js", "the program of finn"), ("dist/server.js", "")]
)
def test_a_service_runs_no_program_of_another(read: Read, program: str, what: str) -> None:
    said = [each for each in judged(read, worker=f'command = ["node", "{program}"]') if "program of" in each]
    assert [what in each for each in said] == [True] * bool(what)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('["node", "server.js"]', '["npm", "test"]', "api runs npm test: no service"),
        ('["node", "server.js"]', '["sleep", "infinity"]', "api runs sleep infinity: no service"),
        ('["node", "server.js"]', '["npm", "start"]', ""),
        ("npm install", "npm install --omit=dev || true", "is built even if its packages"),
        ("npm install", "npm install || npm install", ""),
        ("npm install", "npm install sharp || true", ""),
        ("npm install", "npm ci || true\nRUN npm install", ""),
        ("npm install", "npm install && npm audit || true", ""),
    ],
)
def test_an_image_is_built_and_serves(read: Read, old: str, new: str, what: str) -> None:
    lock = {"package-lock.json": "{}"}
    wrong = [each for each in judged(read, Dockerfile=FILE.replace(old, new, 1), **lock)
             if "no service" in each or "even if" in each]  # fmt: skip
    assert len(wrong) == bool(what), wrong
    assert all(what in each for each in wrong)
