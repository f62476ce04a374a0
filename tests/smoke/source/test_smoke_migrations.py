"""The migration job runs every migration of the plan, whichever way it names them."""

import pytest

from smoke.source.pipeline.deploys import Pipeline
from smoke.source.pipeline.gate import unmigrated
from smoke.source.pipeline.repository import Repository


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        ("      - run: migrate.sh a-migration\n      - run: migrate.sh p-b-migration\n", ""),
        ("      - run: for each in a-migration b-migration; do migrate.sh $each; done\n", ""),
        ("      - run: migrate.sh\n        env: { TASKS: 'a-migration b-migration' }\n", ""),
        ("      - run: migrate.sh a-migration\n", "migrate runs a-migration but not b-migration"),
        ("      - run: npx prisma migrate deploy\n", "? which migrations migrate runs"),
    ],
)
def test_the_migration_job_leaves_no_migration_out(steps: str, what: str) -> None:
    text = f"on: push\njobs:\n  migrate:\n    runs-on: x\n    steps:\n{steps}"
    files = {".github/workflows/deploy.yml": text}
    plan = Pipeline(".github/workflows/deploy.yml", "migrate", [], [], [])
    examined = unmigrated(Repository.read(files, files.get), plan, ["a-migration", "b-migration"])
    said = [each.what for each in examined.findings] + [f"? {each.what}" for each in examined.not_examined]
    assert len(said) == bool(what)
    assert all(each.startswith(what) for each in said)


LOOP = "for m in a-migration b-migration; do"
RULE = "migrate-%:\n\tscripts/migrate.sh $*-migration\n"


@pytest.mark.parametrize(
    ("targets", "makefile", "what"),
    [
        ("migrate-a migrate-b", RULE, []),
        ("all", "all: migrate-a migrate-b\n" + RULE, []),
        ("migrate-a", RULE, ["migrate runs a-migration but not b-migration"]),
        ("all", "M := a b\nall: $(addprefix migrate-,$(M))\n" + RULE, []),
        ("all", "M := a b\nall: $(M:%=migrate-%)\n" + RULE, []),
        ("all", "M := a.sql b.sql\nall: $(patsubst %.sql,migrate-%,$(M))\n" + RULE, []),
        ("all", "M := a b\nall: $(M:=.run)\n%.run:\n\tscripts/migrate.sh $*-migration\n", []),
        ("all", "all:\n\t$(MAKE) $(addprefix migrate-,a b)\n" + RULE, []),
        ("all", "all: $(addprefix migrate-,a)\n" + RULE, ["migrate runs a-migration but not b-migration"]),
        ("all", f"all:\n\tset -e; {LOOP} scripts/migrate.sh $$m; done\n", []),
        ("all", f".ONESHELL:\nall:\n\t{LOOP}\n\t  scripts/migrate.sh $$m\n\tdone\n", []),
    ],
)
def test_the_rules_of_a_makefile_say_which_migrations_run(
    targets: str, makefile: str, what: list[str]
) -> None:
    text = f"on: push\njobs:\n  migrate:\n    runs-on: x\n    steps:\n      - run: make {targets}\n"
    files = {".github/workflows/deploy.yml": text, "Makefile": makefile}
    plan = Pipeline(".github/workflows/deploy.yml", "migrate", [], [], [])
    examined = unmigrated(Repository.read(files, files.get), plan, ["a-migration", "b-migration"])
    assert [each.what for each in examined.findings] == what
    assert not examined.not_examined


A, B = (f"      - run: m.sh {each}-migration\n" for each in "ab")
CASES = """\
      - run: |
          for each in a b; do
            case $each in
              a) m.sh a-migration ;;
              B) m.sh b-migration ;;
            esac
          done
"""
FUNCTION = """\
      - run: |
          migrate() { m.sh "$1"; }
          migrate a-migration
          migrate b-migration
"""


@pytest.mark.parametrize(
    ("steps", "left_out"),
    [
        (A + B, ""),
        (A.rstrip() + "; exit 0\n", ""),
        ("      - run: |\n          m.sh a-migration\n          exit 0\n          m.sh b-migration\n", "b"),
        (f"{A}{B}        if: failure()\n", "b"),
        (f"{A}{B}        if: always()\n", ""),
        (CASES, "b"),
        (CASES.replace("B)", "b)"), ""),
        (FUNCTION, ""),
        (f"{A}        shell: pwsh\n{B}        if: failure()\n", ""),
    ],
)
def test_a_migration_that_is_named_runs_on_some_way(steps: str, left_out: str) -> None:
    text = f"on: push\njobs:\n  migrate:\n    runs-on: x\n    steps:\n{steps}"
    files = {".github/workflows/deploy.yml": text}
    plan = Pipeline(".github/workflows/deploy.yml", "migrate", [], [], [])
    examined = unmigrated(Repository.read(files, files.get), plan, ["a-migration", "b-migration"])
    said = [each.what for each in examined.findings if "never runs" in each.what]
    assert said == [f"migrate names {each}-migration and never runs it" for each in left_out]
