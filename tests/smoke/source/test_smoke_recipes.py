"""Recipes behind `make`, `just`, `task` and `npm run` are followed, or reported as not examined."""

import pytest

from smoke.source.checkout import Examined
from smoke.source.scripts import recipes
from tests.smoke.source.workflow_files import MIGRATE, gate, judged, migrate, workflow

MAKEFILE = "DO = npm run db:migrate\n\n.PHONY: migrate\nmigrate: build\n\t@$(DO)\nbuild:\n\tnpm ci\n"
PACKAGE = '{"scripts": {"migrate": "prisma migrate deploy"}}'


@pytest.mark.parametrize(
    ("run", "path", "text", "lost"),
    [
        ("make migrate", "Makefile", MAKEFILE, ""),
        ("make -C db migrate", "db/Makefile", MAKEFILE, ""),
        ("make migrate", "Makefile", MAKEFILE.replace("@$", "-@$"), "this line is ignored"),
        ("make migrate", "Makefile", MAKEFILE.replace("\t@$(DO)", "\t$(DO); echo done"), "set -e is not set"),
        ("make migrate", "Makefile", MAKEFILE.replace("\t@$(DO)", "\t$(DO) \\\n\t  || true"), "|| true"),
        ("make migrate", "Makefile", MAKEFILE.replace("db:migrate", "upgrade"), ""),
        ("make -i migrate", "Makefile", MAKEFILE, "this line is ignored"),
        ("make migrate", "Makefile", ".IGNORE:\n" + MAKEFILE, "this line is ignored"),
        ("npm run migrate", "package.json", PACKAGE, ""),
        ("npm --prefix api run migrate", "api/package.json", PACKAGE, ""),
        ("pnpm migrate", "package.json", PACKAGE, ""),
        ("npm run migrate", "package.json", PACKAGE.replace("deploy", "deploy || true"), "|| true"),
        ("yarn migrate", "package.json", PACKAGE.replace("deploy", "deploy; echo"), "set -e is not set"),
        ("npm run migrate", "package.json", "{", ""),
        (
            "just migrate prod",
            "justfile",
            "migrate env: build\n    npm run {{env}}:migrate\nbuild:\n    make\n",
            "",
        ),
        ("just migrate", "justfile", "migrate:\n    -npm run db:migrate\n", "this line is ignored"),
        (
            "just migrate",
            "justfile",
            "migrate:\n    #!/bin/bash\n    npm run db:migrate\n    echo\n",
            "set -e is not set",
        ),
    ],
)
def test_recipes_are_followed(run: str, path: str, text: str, lost: str) -> None:
    found = gate(workflow(migrate=migrate(steps=[{"run": run}])), **{path: text})
    said = [each.what for each in found.void.findings]
    assert (len(said), found.void.not_examined) == (bool(lost), [])
    assert all(lost in each for each in said)


@pytest.mark.parametrize(("directory", "lost"), [("services/api", True), ("services/other", False)])
def test_a_script_is_looked_for_where_the_step_runs(directory: str, lost: bool) -> None:
    job = migrate(steps=[{"run": "./db-migrate.sh", "working-directory": directory}])
    found = gate(workflow(migrate=job), **{"services/api/db-migrate.sh": "npm run migrate\nexit 0\n"})
    assert [each.path for each in found.void.findings] == ["services/api/db-migrate.sh"] * lost
    changing = migrate(steps=[{"run": f"cd {directory} && ./db-migrate.sh"}])
    assert (
        gate(workflow(migrate=changing), **{"services/api/db-migrate.sh": "npm run migrate\nexit 0\n"})
        == found
    )


UP = "npm run migrate"
IGNORED = "a failure of this line is ignored"
#: Makefiles by the effect of a failed migration in `make migrate`.
MAKEFILES: list[tuple[dict[str, str], str, str]] = [
    ({"Makefile": "include mk/db.mk\n", "mk/db.mk": f"migrate:\n\t-{UP}\n"}, "lost", IGNORED),
    ({"Makefile": "-include mk/db.mk\nmigrate: up\n\techo\n", "mk/db.mk": f"up:\n\t{UP}\n"}, "sound", ""),
    ({"Makefile": f"-include .env\nexport\nmigrate: ## up\n\t{UP}\n"}, "sound", ""),
    ({"Makefile": "include $(WHERE)/db.mk\n"}, "open", "include ${WHERE}/db.mk"),
    ({"Makefile": "include mk/*.mk\n"}, "open", "include mk/*.mk: the rule of migrate"),
    ({"Makefile": "migrate:\n\t$(MAKE) -C db up\n", "db/Makefile": f"up:\n\t-{UP}\n"}, "lost", IGNORED),
    ({"Makefile": "migrate:\n\t$(MAKE) -C db up\n", "db/Makefile": "up:\n\t./up.sh\n",
      "db/up.sh": f"{UP} || true\n"}, "lost", "|| true"),
    ({"Makefile": f".ONESHELL:\nmigrate:\n\t{UP}\n\techo\n"}, "lost", "set -e is not set"),
    ({"Makefile": f".ONESHELL:\n.SHELLFLAGS = -ec\nmigrate:\n\t{UP}\n\t@echo\n"}, "sound", ""),
    ({"Makefile": f".ONESHELL:\n.SHELLFLAGS = -ec\nmigrate:\n\t@-{UP}\n\techo\n"}, "lost", IGNORED),
    ({"Makefile": f".SHELLFLAGS := -eu -o pipefail -c\nmigrate:\n\t{UP} | tee log\n"}, "sound", ""),
    ({"Makefile": f"SHELL := /bin/bash -eo pipefail\nmigrate:\n\t{UP} | tee log\n"}, "sound", ""),
    (
        {"Makefile": f"SHELL := /usr/bin/env bash\n.SHELLFLAGS := -o pipefail -c\nmigrate:\n\t{UP} | tee x"},
        "sound",
        "",
    ),
    ({"Makefile": f"SHELL := python3\nmigrate:\n\t{UP}\n"}, "open", "SHELL = python3"),
    ({"Makefile": f".POSIX:\nmigrate:\n\t{UP}; echo\n"}, "sound", ""),
    ({"Makefile": f"migrate:\n\t{UP}; echo\n"}, "lost", "set -e is not set"),
    *(({"Makefile": f"migrate:\n\t{sign}{UP}\n"}, "lost", IGNORED) for sign in ("@-", "-@", "+@ - ", "- +")),
    ({"Makefile": f"migrate:\n\t@+{UP}\n"}, "sound", ""),
    ({"Makefile": f"Q = @-\nmigrate:\n\t$(Q){UP}\n"}, "lost", IGNORED),
    ({"Makefile": f"MAKEFLAGS += -i\nmigrate:\n\t{UP}\n"}, "lost", IGNORED),
    ({"Makefile": f"migrate: ; -{UP}\n"}, "lost", IGNORED),
    ({"Makefile": f"migr%:\n\t-{UP} -- $*\n"}, "lost", IGNORED),
    ({"Makefile": f"T = migrate\n$(T):\n\t-{UP}\n"}, "lost", IGNORED),
    ({"Makefile": f"migrate: build\nmigrate:\n\t{UP} || true\nmigrate: other\n"}, "lost", "|| true"),
    ({"Makefile": f"migrate: DO = {UP} || true\nmigrate:\n\t$(DO)\n"}, "lost", "|| true"),
    ({"Makefile": f"define up\n{UP} $(1) || true\nendef\nmigrate:\n\t$(call up,api)\n"}, "lost", "|| true"),
    ({"Makefile": f"define up\n-{UP}\nendef\nmigrate:\n\t$(up)\n"}, "lost", IGNORED),
    ({"Makefile": f"migrate:\n\t$(foreach s,a b,{UP} -- $(s);)\n"}, "open", "$(foreach"),
    ({"Makefile": f"migrate:\nifdef CI\n\t-{UP}\nelse\n\t{UP}\nendif\n"}, "open", "ifdef CI"),
    ({"Makefile": f"migrate:\nifdef CI\n\t{UP}\nelse\n\t{UP} -v\nendif\n"}, "sound", ""),
    ({"Makefile": f"migrate:\n\tfor s in a b; do {UP} -- $$s || exit 1; done\n"}, "sound", ""),
    ({"Makefile": "a: b\nb: a\nmigrate: a\n\t" + UP}, "sound", ""),
]  # fmt: skip


@pytest.mark.parametrize(("files", "verdict", "why"), MAKEFILES)
def test_makefiles_are_read_as_make_reads_them(files: dict[str, str], verdict: str, why: str) -> None:
    found, said = judged("make migrate", files=files)
    assert (found, why in said) == (verdict, True), said


@pytest.mark.parametrize(
    ("call", "text", "verdict"),
    [
        ("make -f db.mk migrate", {"db.mk": f"migrate:\n\t-{UP}\n"}, "lost"),
        ("make -j migrate", {"Makefile": f"all:\n\ttrue\nmigrate:\n\t-{UP}\n"}, "lost"),
        ("make up DO='npm run migrate || true'", {"Makefile": "DO = echo\nup:\n\t$(DO)\n"}, "lost"),
        ("cd db && make migrate", {"db/Makefile": f"migrate:\n\t-{UP}\n"}, "lost"),
        ("just migrate", {"justfile": f"migrate env='prod':\n    -{UP}\n"}, "lost"),
        (
            "just migrate",
            {"justfile": "import 'db.just'\n", "db.just": f"migrate:\n    {UP} || true\n"},
            "lost",
        ),
        (
            "just migrate",
            {"justfile": f'set shell := ["bash", "-euo", "pipefail", "-c"]\nmigrate:\n    {UP} | tee x\n'},
            "sound",
        ),
        ("just db::migrate", {"justfile": "mod db\n"}, "open"),
    ],
)
def test_calls_of_make_and_just_are_followed(call: str, text: dict[str, str], verdict: str) -> None:
    assert judged(call, files=text)[0] == verdict


#: Tasks of a Taskfile by the effect of a failed migration in `task migrate`.
TASKS: list[tuple[str, str, str]] = [
    (f"migrate: {UP}", "sound", ""),
    (f"migrate: {{cmds: [{{cmd: {UP}, ignore_error: true}}]}}", "lost", IGNORED),
    (f"migrate: {{ignore_error: true, cmds: [{UP}]}}", "lost", IGNORED),
    (f"migrate: {{cmds: ['{UP} || true']}}", "lost", "|| true"),
    (f"migrate: {{deps: [up], cmds: [echo]}}\n  up: {UP} || true", "lost", "|| true"),
    (f"migrate: {{cmds: [{{task: up}}]}}\n  up: {UP}", "sound", ""),
    (f"migrate: {{ignore_error: true, cmds: [{{task: up}}]}}\n  up: {UP}", "open", "the task up is ignored"),
    (f"migrate: {{cmds: [{{defer: {UP}}}, echo]}}", "lost", IGNORED),
    (f"migrate: {{cmds: [{{for: [a, b], cmd: '{UP} -- {{{{.ITEM}}}}'}}]}}", "sound", ""),
    (f"up: {{aliases: [migrate], cmds: ['{UP} || true']}}", "lost", "|| true"),
    (f"migrate:\n    cmds:\n      - |\n        {UP}\n        echo", "lost", "set -e is not set"),
    (f"migrate:\n    set: [e]\n    cmds:\n      - |\n        {UP}\n        echo", "sound", ""),
    (f"migrate: {{set: [pipefail], cmds: ['{UP} | tee x']}}", "sound", ""),
    (f"migrate: {{vars: {{DO: {UP} || true}}, cmds: ['{{{{.DO}}}}']}}", "lost", "|| true"),
    (f"migrate: {{status: [test -f x], cmds: ['{UP} || true']}}", "open", "status of the task migrate"),
    ("migrate: {cmds: [{task: migrate}]}", "open", "nested deeper"),
    ("other: echo", "open", "the task migrate: it is not in the files"),
    (f"migrate: {{vars: [a], deps: 5, set: {{a: b}}, cmds: [{UP}]}}", "open", "the task 5"),
]


@pytest.mark.parametrize(("tasks", "verdict", "why"), TASKS)
def test_tasks_are_followed(tasks: str, verdict: str, why: str) -> None:
    found, said = judged("task migrate", files={"Taskfile.yml": f"version: '3'\ntasks:\n  {tasks}\n"})
    assert (found, why in said) == (verdict, True), said


def test_an_included_taskfile_is_followed_or_not_examined() -> None:
    files = {
        "Taskfile.yml": "includes:\n  db: {taskfile: ./db, dir: db}\n  far: https://host/T.yml\ntasks: {}\n",
        "db/Taskfile.yml": "tasks:\n  migrate: ./up.sh\n",
        "db/up.sh": f"{UP} || true\n",
    }
    assert judged("task db:migrate", files=files)[0] == "lost"
    assert judged("task far:migrate", files=files)[0] == "open"
    assert judged("task db:migrate", files={"Taskfile.yml": "a: ["}) == (
        "open",
        "the task db:migrate: it is not valid YAML",
    )


API = {
    "package.json": '{"workspaces": ["apps/*"]}',
    "apps/api/package.json": '{"name": "@x/api", "scripts": S}',
}
SEVERAL = '{"scripts": {"all": "RUN", "db:migrate": "x migrate OR", "b": "echo"}}'


@pytest.mark.parametrize(
    "call",
    [
        "npm -w @x/api run migrate",
        "npm run migrate --workspace=apps/api",
        "pnpm --filter api migrate",
        "pnpm --filter ./apps/api run migrate",
        "yarn workspace @x/api migrate",
        "yarn workspace @x/api run migrate",
        "cd apps/api && npm run migrate",
        "npm --prefix apps/api run migrate",
    ],
)
def test_the_package_of_a_workspace_is_followed(call: str) -> None:
    for script, verdict in (
        ("x migrate || true", "lost"),
        ("x migrate; echo", "lost"),
        ("x migrate", "sound"),
    ):
        files = {name: text.replace("S}", f'{{"migrate": "{script}"}}}}') for name, text in API.items()}
        assert judged(call, files=files)[0] == verdict


@pytest.mark.parametrize(
    "call",
    [
        "pnpm -r run migrate",
        "npm run migrate --workspaces --if-present",
        "yarn workspaces foreach -A run migrate",
        "npx turbo run migrate",
        "pnpm turbo db:migrate --filter=api",
        "npm -w other run migrate",
        "nx run api:migrate",
        "npx -y lerna@8 run migrate",
    ],
)
def test_what_runs_scripts_of_packages_that_are_not_found_is_not_examined(call: str) -> None:
    assert judged(call, files=API)[0] == "open"


@pytest.mark.parametrize(
    ("run", "passes", "fails"),
    [
        ("npm run db:migrate && npm run b", "sound", "lost"),
        ("run-s db:migrate b", "sound", "lost"),
        ("run-s 'db:*' b", "sound", "lost"),
        ("npm-run-all -p b db:migrate", "sound", "lost"),
        ("run-p --race b db:migrate", "open", "open"),
        ("concurrently npm:b 'npm run db:migrate'", "sound", "lost"),
        ("concurrently -n a,b npm:db:migrate npm:b", "sound", "lost"),
        ("concurrently --success first npm:db:migrate npm:b", "open", "open"),
        ("npx run-s db:migrate", "sound", "lost"),
    ],
)
def test_several_scripts_of_a_package_are_followed(run: str, passes: str, fails: str) -> None:
    for end, verdict in (("", passes), ("|| true", fails)):
        files = {"package.json": SEVERAL.replace("RUN", run).replace("OR", end)}
        assert judged("npm run all", files=files)[0] == verdict


def test_a_workspace_that_is_not_a_list_has_no_packages() -> None:
    assert judged("npm -w api run migrate", files={"package.json": '{"workspaces": 5}'})[0] == "open"


def test_scripts_before_and_after_are_followed() -> None:
    for name in ("preship", "postship"):
        package = f'{{"scripts": {{"{name}": "x migrate || true", "ship": "echo"}}}}'
        assert judged("npm run ship", files={"package.json": package})[0] == "lost"


def test_an_include_that_cannot_be_read_is_named_where_nothing_else_migrates() -> None:
    job = migrate(steps=[{"run": "make release"}])
    makefile = "include $(WHERE)/db.mk\nrelease: up\n\techo\n"
    found = gate(workflow(migrate=job), Makefile=makefile).void
    assert (
        found.findings, [each.what for each in found.not_examined]
    ) == ([], ["include ${WHERE}/db.mk: the rule of up may be there"])  # fmt: skip
    job["steps"].append(MIGRATE)
    assert gate(workflow(migrate=job), Makefile=makefile).void == Examined()


JUST = """set shell := ["bash", "-euc"]
env := "staging"
all: build (run "freeside") (run "dixie" "v1")
build target="api" *flags:
    docker build {{target}} {{flags}}
run product tag='latest':
    migrate {{product}} {{ tag }} {{env}} {{other}}
"""


@pytest.mark.parametrize(
    ("call", "lines"),
    [
        ("run freeside", ["migrate freeside latest staging ${other}"]),
        ("run freeside v1 build", ["migrate freeside v1 staging ${other}", "docker build api "]),
        ("run", ["migrate ${product} latest staging ${other}"]),
        ("build web one two", ["docker build web one two"]),
        (
            "all",
            [
                "docker build api ",
                "migrate freeside latest staging ${other}",
                "migrate dixie v1 staging ${other}",
            ],
        ),
    ],
)
def test_a_recipe_of_just_has_its_arguments(call: str, lines: list[str]) -> None:
    found = recipes.lines(["just", *call.split()], lambda path: (path, JUST) if path == "justfile" else None)
    assert [each.text for each in found or ()] == lines


BEHIND = """
registry := "ecr"

build image tag="latest":
    docker build {{image}} {{tag}}

push name: (build name registry)
    docker push {{name}}

ship name: (build name + "-web" "1.0 rc")
    ship {{name}}
"""


@pytest.mark.parametrize(
    ("call", "lines"),
    [
        (["push", "finn"], ["docker build finn ecr", "docker push finn"]),
        (["push"], ["docker build ${name} ecr", "docker push ${name}"]),
        (["push", "a b"], ["docker build a b ecr", "docker push a b"]),
        (["ship", "api"], ["docker build ${name_web_} 1.0 rc", "ship api"]),
        (["it's"], []),
    ],
)
def test_a_recipe_of_just_passes_its_values_on(call: list[str], lines: list[str]) -> None:
    found = recipes.lines(["just", *call], lambda path: (path, BEHIND) if path == "justfile" else None)
    assert [each.text for each in found or ()] == lines


def test_an_empty_justfile_runs_nothing() -> None:
    found = recipes.lines(["just"], lambda path: (path, "# later\n") if path == "justfile" else None)
    assert not list(found or ())


STATIC = "all: up-a up-b\nup-a up-b: up-%:\n\tnpm run migrate -- $*\n"
LOOP = (
    "version: '3'\ntasks:\n  up:\n    cmds:\n      - for: [a, b]\n        cmd: npm run migrate -- {{.ITEM}}\n"
)
CALLS = """\
version: '3'
vars: {NAMES: a b}
tasks:
  up:
    deps: [{task: one, vars: {NAME: a}}]
    cmds:
      - {for: {var: NAMES, as: N}, task: one, vars: {NAME: "{{.N}}"}}
  one: npm run migrate -- {{.NAME}}
"""


@pytest.mark.parametrize(
    ("run", "path", "text", "names"),
    [
        ("make all", "Makefile", STATIC, ["a", "b"]),
        ("task up", "Taskfile.yml", LOOP, ["a", "b"]),
        ("task up", "Taskfile.yml", CALLS, ["a", "a", "b"]),
    ],
)
def test_a_recipe_runs_once_for_each_name(run: str, path: str, text: str, names: list[str]) -> None:
    lines = recipes.lines(run.split(), lambda each: (each, text) if each == path else None)
    assert [each.text.rpartition(" ")[2] for each in lines] == names
    assert judged(run, files={path: text}) == ("sound", "")
    assert judged(run, files={path: text.replace("migrate --", "migrate -- || true;")})[0] == "lost"


def test_an_empty_separator_splits_at_spaces() -> None:
    text = CALLS.replace("as: N", "as: N, split: ''")
    lines = recipes.lines(["task", "up"], lambda each: (each, text) if each == "Taskfile.yml" else None)
    assert [each.text.rpartition(" ")[2] for each in lines] == ["a", "a", "b"]


def test_a_loop_over_files_is_not_examined() -> None:
    text = LOOP.replace("[a, b]", "sources")
    assert judged("task up", files={"Taskfile.yml": text}) == ("open", "for: sources")
