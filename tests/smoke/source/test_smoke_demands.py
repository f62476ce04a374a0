"""A program's required configuration is given to the tasks of its image."""

import pytest

from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.pipeline.programs import ungiven
from smoke.source.pipeline.repository import Repository
from tests.smoke.source.terraform_files import Read

TASKS = """
variable "tag" {}
resource "aws_ecs_task_definition" "api" {
  family                = "p-api"
  container_definitions = jsonencode([{
    name = "api", image = "registry/p-api:${var.tag}"
    environment = [{ name = "FINN_URL", value = "http://finn" }, { name = "EMPTY", value = "" }]
    secrets     = [{ name = "DATABASE_URL", valueFrom = "arn" }] MORE
  }])
}
resource "aws_ecs_service" "api" { task_definition = aws_ecs_task_definition.api.arn }
"""
CONFIG = """\
const required = (name: string): string => {
  const value = env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};
const optional = (name: string) => process.env[name] ?? "";
export const config = { finn: required("FINN_URL"), db: required("DATABASE_URL") };
"""
WORKFLOW = """
on: push
jobs:
  build:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v4
      - run: docker build --tag registry/p-api:1 .
"""
GROUPS = {"p-api": ["api", "freeside"]}


def demands(read: Read, files: dict[str, str], more: str = "") -> list[str]:
    base = {".github/workflows/w.yml": WORKFLOW, "Dockerfile": "FROM node:22\nCOPY . .\nENV STAGE=x\n"}
    defined = read_definitions(read(TASKS.replace("MORE", more)), ["api"])
    given = base | files
    return [str(each) for each in ungiven(Repository.read(given, given.get), GROUPS, defined)]


@pytest.mark.parametrize(
    ("path", "line", "missing"),
    [
        ("packages/api/src/config.ts", "", ""),
        ("src/config.ts", 'required("DIXIE_URL");', "DIXIE_URL"),
        ("packages/api/src/config.ts", 'required("DIXIE_URL");', "DIXIE_URL"),
        ("packages/api/src/config.ts", 'required("EMPTY");', "EMPTY"),
        ("packages/api/src/config.ts", "if (!process.env.KEY) throw new Error();", "KEY"),
        ("packages/api/src/config.ts", 'required("STAGE");', ""),
        ("packages/api/src/config.ts", 'required("AWS_REGION");', ""),
        ("packages/api/src/config.ts", 'optional("DIXIE_URL");', ""),
        ("packages/api/src/config.ts", 'const d = on ? required("DIXIE_URL") : "";', ""),
        ("packages/api/src/config.ts", 'if (on) required("DIXIE_URL");', ""),
        ("packages/api/src/config.ts", '// required("DIXIE_URL");', ""),
        ("packages/api/src/config.ts", 'const later = () => required("DIXIE_URL");', ""),
        ("packages/api/src/config.ts", 'const all = { get dixie() { return required("DIXIE_URL"); } };', ""),
        ("packages/api/src/seed.ts", 'required("DIXIE_URL");', ""),
        ("packages/api/tests/config.ts", 'required("DIXIE_URL");', ""),
        ("packages/web/src/config.ts", 'required("DIXIE_URL");', ""),
    ],
)
def test_what_the_configuration_demands_is_given(read: Read, path: str, line: str, missing: str) -> None:
    found = demands(read, {path: f"{CONFIG}{line}\n"})
    said = f"{path}:8: it demands {missing}, which no task of api sets"
    assert found == ([said] if missing else [])


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("export const c = {\n  dixie: required('DIXIE_URL'),\n};", True),
        ("if (on) {\n  required('DIXIE_URL');\n}", False),
        ("export function load() {\n  return {\n    dixie: required('DIXIE_URL'),\n  };\n}", True),
        ("export function dixie() {\n  required('DIXIE_URL');\n}", False),
    ],
)
def test_a_demand_is_made_when_the_configuration_is_loaded(read: Read, lines: str, found: bool) -> None:
    assert len(demands(read, {"src/config.ts": f"{CONFIG}{lines}\n"})) == found


@pytest.mark.parametrize(
    "lines",
    ['# os.environ["API_KEY"]', 'try:\n    os.environ["API_KEY"]\nexcept KeyError:\n    pass',
     'def key():\n    return os.environ["API_KEY"]'],
)  # fmt: skip
def test_python_need_not_demand_what_it_names(read: Read, lines: str) -> None:
    assert demands(read, {"src/config.py": f"import os\n{lines}\n"}) == []


def test_a_command_or_a_script_may_set_what_is_demanded(read: Read) -> None:
    files = {"src/config.ts": f'{CONFIG}required("DIXIE_URL");\n'}
    by_script = {"docker/entry.sh": "#!/bin/sh\nexport DIXIE_URL=http://dixie\nexec node .\n"}
    assert demands(read, files | by_script) == []
    assert demands(read, files, ', command = ["sh", "-c", "DIXIE_URL=http://d exec node ."]') == []


def test_python_demands_by_a_subscript(read: Read) -> None:
    lines = 'import os\nfinn = os.environ["FINN_URL"]\nkey = os.environ["API_KEY"]\n'
    assert len(demands(read, {"src/settings.py": lines})) == 1
    assert not demands(
        read, {"src/settings.py": lines.replace('os.environ["API_KEY"]', 'os.getenv("API_KEY")')}
    )


@pytest.mark.parametrize(
    ("files", "more"),
    [
        ({"src/config.ts": 'const r = (n: string) => { if (!env[n]) throw 1; };\nr("A_B");\n'}, ""),
        ({".env.production": "DIXIE_URL=x\n"}, ""),
        ({}, ', environmentFiles = [{ type = "s3", value = "arn" }]'),
    ],
)
def test_what_may_come_from_elsewhere_is_not_blamed(read: Read, files: dict[str, str], more: str) -> None:
    files = {"src/config.ts": f'{CONFIG}required("DIXIE_URL");\n'} | files
    assert not demands(read, files, more)
