"""What `make`, `just` and `npm run` stand for is followed."""

import pytest

from tests.smoke.source.workflow_files import (
    gate,
    migrate,
    workflow,
)

MAKEFILE = "DO = npm run db:migrate\n\n.PHONY: migrate\nmigrate: build\n\t@$(DO)\nbuild:\n\tnpm ci\n"
PACKAGE = '{"scripts": {"migrate": "prisma migrate deploy"}}'


@pytest.mark.parametrize(
    ("run", "path", "text", "lost"),
    [
        ("make migrate", "Makefile", MAKEFILE, ""),
        ("make -C db migrate", "db/Makefile", MAKEFILE, ""),
        ("make migrate", "Makefile", MAKEFILE.replace("@$", "-@$"), "this line is ignored"),
        ("make migrate", "Makefile", MAKEFILE.replace("\t@$(DO)", "\t$(DO); echo done"), "no set -e"),
        ("make migrate", "Makefile", MAKEFILE.replace("\t@$(DO)", "\t$(DO) \\\n\t  || true"), "|| true"),
        ("make migrate", "Makefile", MAKEFILE.replace("db:migrate", "upgrade"), ""),
        ("make -i migrate", "Makefile", MAKEFILE, "this line is ignored"),
        ("make migrate", "Makefile", ".IGNORE:\n" + MAKEFILE, "this line is ignored"),
        ("npm run migrate", "package.json", PACKAGE, ""),
        ("npm --prefix api run migrate", "api/package.json", PACKAGE, ""),
        ("pnpm migrate", "package.json", PACKAGE, ""),
        ("npm run migrate", "package.json", PACKAGE.replace("deploy", "deploy || true"), "|| true"),
        ("yarn migrate", "package.json", PACKAGE.replace("deploy", "deploy; echo"), "no set -e"),
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
            "no set -e",
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
