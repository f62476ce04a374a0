"""Failed migrations in scripts: every way to lose the failure is found; a sound script passes."""

import time

import pytest

from tests.smoke.source.workflow_files import judged

TASK = """\
task="$(aws ecs run-task --cluster c --task-definition m --query 'tasks[0].taskArn' --output text)"
aws ecs wait tasks-stopped --tasks "$task"
"""
DESCRIBE = (
    """aws ecs describe-tasks --tasks "$task" --query 'tasks[0].containers[0].exitCode' --output text"""
)
CODE = f"{TASK}code=$({DESCRIBE})\n"
JSON = CODE.replace("--output text)", "--output json)")
JQ = f"{TASK}code=$(aws ecs describe-tasks --tasks $task | jq -r '.tasks[0].containers[0].exitCode')\n"
EMPTY = JQ.replace("exitCode", "exitCode // empty")


@pytest.mark.parametrize(
    "text",
    [
        "npm run migrate",
        "npm run migrate; echo done; exit 0",
        "npm run migrate || exit 1",
        "npm run migrate || { echo failed; exit 1; }",
        "npm run migrate || (echo failed && exit 1)",
        "npm run migrate && echo done",
        "npm run migrate && echo done || exit 1",
        "if ! npm run migrate; then echo failed; exit 1; fi\necho ok",
        "if npm run migrate; then echo ok; else exit 1; fi",
        "npm run migrate & wait $!",
        "npm run migrate > >(tee log)",
        "npm run migrate & a=$!\nnode x & b=$!\nwait $a\nwait $b",
        "node x & a=$!\nnpm run migrate & b=$!\nwait $a $b",
        "bash -e <<'EOF'\nnpm run migrate\necho done\nEOF",
        "bash -eu <<'EOF'\nnpm run migrate\necho done\nEOF\necho behind",
        "set -o pipefail\nnpm run migrate | tee log",
        "set +e\nnpm run migrate\ncode=$?\nset -e\nif [ $code -ne 0 ]; then exit $code; fi",
        "code=0\nnpm run migrate || code=$?\nexit $code",
        "npm run migrate\n[ $? -eq 0 ] || exit 1",
        "(npm run migrate)",
        "{ npm run migrate; } 2>&1",
        "npm run migrate > log 2>&1",
        'out=$(npm run migrate)\necho "$out"',
        "bash -c 'set -e; npm run migrate; echo x'",
        "bash -euo pipefail -c 'npm run migrate | tee x'",
        "docker run --rm -e A=b image sh -ec 'npm run migrate; echo x'",
        "time npm run migrate",
        "trap 'rm -f x' EXIT\nnpm run migrate",
        'if [ -n "$VERBOSE" ]; then set -x; fi\nnpm run migrate\necho ok',
        "for each in freeside dixie; do npm run migrate $each; done",
        'one() { npm run migrate "$1"; }\none freeside\none dixie',
        "# npm run other || true\nnpm run migrate",
        "npm run migrate\ncurl -d 'migration done' https://chat || true\naws logs tail /x/migration || true",
    ],
)
def test_a_failure_ends_the_script(text: str) -> None:
    assert judged(text) == ("sound", "")


@pytest.mark.parametrize(
    "text",
    [
        "npm run migrate || npm run migrate",
        "until npm run migrate; do sleep 1; done",
        "while ! npm run migrate; do sleep 1; done",
        "for i in 1 2 3; do\n if npm run migrate; then exit 0; fi\n sleep 5\ndone\nexit 1",
        "for i in 1 2 3; do\n npm run migrate && break\n [ $i = 3 ] && exit 1\n sleep 5\ndone",
        'for i in {1..5}; do npm run migrate && break; if [ "$i" -eq 5 ]; then exit 1; fi; done',
        "for i in $(seq 1 5); do if npm run migrate; then break; fi; if [[ $i == 5 ]]; then exit 1; fi; done",
        "n=0\nuntil npm run migrate; do n=$((n+1)); if [ $n -ge 3 ]; then exit 1; fi; sleep 5; done",
        'n=0\nuntil npm run migrate; do\n  n=$((n + 1))\n  [ "$n" -lt 3 ] || exit 1\ndone\necho done',
        "n=1\nuntil npm run migrate; do\n if (( n >= 3 )); then exit 1; fi\n ((n++)) || true\ndone",
        """\
max=3
i=1
while true; do
  if npm run migrate; then break; fi
  if [ "$i" -ge "$max" ]; then exit 1; fi
  i=$((i+1))
done""",
        'ok=false\nfor i in 1 2 3; do if npm run migrate; then ok=true; break; fi; done\n[ "$ok" = true ]',
    ],
)
def test_a_correct_retry_is_not_a_finding(text: str) -> None:
    assert judged(text) == ("sound", "")


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("npm run migrate | tee log", "because pipefail is not set"),
        ("npm run migrate 2>&1 | tee log | cat", "because pipefail is not set"),
        ("npm run migrate || true", "`|| true` continues"),
        ("npm run migrate || :", "`|| :` continues"),
        ("npm run migrate || echo failed", "`|| echo failed` continues"),
        ("npm run migrate || curl -d failed https://chat", "continues"),
        ("npm run migrate && echo ok\necho next", "does not end the script"),
        ("! npm run migrate", "inverts it"),
        ("if ! npm run migrate; then echo failed; fi", "inverts it"),
        ("if npm run migrate; then echo ok; fi", "no branch that ends the script"),
        ("if npm run migrate | grep -q error; then exit 1; fi", "pipefail is not set"),
        ("npm run migrate &", "in the background"),
        ("npm run migrate &\nwait", "in the background"),
        ("while read -r x; do echo $x; done < <(npm run migrate)", "is lost in a process substitution"),
        ("npm run migrate & a=$!\nnode x & b=$!\nwait $a $b", "has the status of the last one"),
        ("bash -c 'npm run migrate; echo done'", "because set -e is not set"),
        ("docker run -e A=b image sh -c 'npm run migrate; echo x'", "because set -e is not set"),
        ("sh -c 'npm run migrate || true'", "continues"),
        ("eval 'npm run migrate; true'", "because set -e is not set"),
        ("bash <<EOF\nnpm run migrate\necho\nEOF", "because set -e is not set"),
        ('echo "$(npm run migrate)"', "hides the status"),
        ("echo `npm run migrate`", "hides the status"),
        ("export out=$(npm run migrate)", "`export` hides the status"),
        ("readonly out=$(npm run migrate)", "`readonly` hides the status"),
        ("f() { local out=$(npm run migrate); }\nf", "`local` hides the status"),
        ("set +e\nnpm run migrate\necho x", "because set -e is not set"),
        ("set +o errexit\nnpm run migrate\necho x", "because set -e is not set"),
        ("set +e\nnpm run migrate\ncode=$?\necho $code", "because set -e is not set"),
        ("npm run migrate || code=$?\necho $code", "continues"),
        ("f() { npm run migrate; echo done; }\nf || exit 1", "because set -e is not set"),
        ("for i in 1 2 3; do npm run migrate && break; sleep 1; done", "does not end the script"),
        ("for each in a b; do npm run migrate $each || true; done", "continues"),
        ("set +e\nfor each in a b; do npm run migrate $each; done", "because set -e is not set"),
        ("npm run migrate-a || true\nnpm run migrate-b", "continues"),
    ],
)
def test_a_failure_that_is_lost_is_found(text: str, how: str) -> None:
    assert judged(text)[0] == "lost"
    assert how in judged(text)[1]


@pytest.mark.parametrize(
    "text",
    [
        CODE + 'if [ "$code" != "0" ]; then exit 1; fi',
        CODE + '[ "$code" = "0" ]',
        CODE + '[[ "$code" == 0 ]] || exit 1',
        CODE + '[ "$code" -eq 0 ] || exit 1',
        CODE + 'exit "$code"',
        CODE + 'test "$code" = 0',
        CODE + 'case "$code" in 0) ;; *) exit 1 ;; esac',
        CODE + 'if [ "$code" != "0" ] || [ "$code" = "None" ]; then exit 1; fi',
        JQ + 'if [ "$code" != "0" ]; then exit 1; fi',
        JQ + "exit ${code:-0}",
        EMPTY + 'if [ "${code:-1}" != 0 ]; then exit 1; fi',
        EMPTY + '[ "$code" = 0 ]',
        JSON + 'if [ "$code" = null ] || [ "$code" != 0 ]; then exit 1; fi',
        TASK
        + "aws ecs describe-tasks --tasks $task | jq -e '.tasks[0].containers[0].exitCode == 0' > /dev/null",
        f"{TASK}aws ecs describe-tasks > t.json\njq -e '.tasks[0].containers[0].exitCode == 0' t.json",
        f"{TASK}{DESCRIBE} | grep -qx 0",
        f"{TASK}if ! {DESCRIBE} | grep -q '^0$'; then exit 1; fi",
        TASK
        + "n=$(aws ecs describe-tasks | jq '[.tasks[].containers[] | select(.exitCode != 0)] | length')\n"
        'if [ "$n" -gt 0 ]; then exit 1; fi',
        TASK
        + "bad=$(aws ecs describe-tasks --query 'tasks[].containers[?exitCode!=`0`].name')\n[ -z \"$bad\" ]",
        f'{TASK}if [ "$({DESCRIBE})" != "0" ]; then exit 1; fi',
        f'code_of() {{ {DESCRIBE}; }}\n{TASK}[ "$(code_of)" = 0 ]',
        "for each in a b; do\n"
        + CODE.replace("definition m", 'definition "$each"')
        + '[ "$code" = 0 ]\ndone',
    ],
)
def test_an_exit_code_that_is_compared_is_sound(text: str) -> None:
    assert judged(text) == ("sound", "")


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (TASK, ""),
        (TASK + DESCRIBE, ""),
        (f"{TASK}{DESCRIBE} || exit 1", ""),
        (CODE + 'echo "ended with $code"', ""),
        (CODE + 'if [ "$code" = "1" ]; then exit 1; fi', ""),
        (CODE + 'if [ "$code" != "0" ]; then echo failed; fi', ""),
        (CODE + 'if [ "$code" -ne 0 ]; then exit 1; fi', "(null) passes"),
        (CODE + '[[ "$code" -eq 0 ]] || exit 1', "(null) passes"),
        (CODE + "(( code == 0 )) || exit 1", "(null) passes"),
        (CODE + "if (( code )); then exit 1; fi", "(null) passes"),
        (CODE + 'if [ "$code" != "None" ] && [ "$code" != "0" ]; then exit 1; fi', "(null) passes"),
        (JQ.replace("exitCode", "exitCode // 0") + '[ "$code" = 0 ]', "(null) passes"),
        (f"{TASK}code=$({DESCRIBE} || echo 0)\n" + '[ "$code" = 0 ]', "(null) passes"),
        (EMPTY + 'if [ -n "$code" ] && [ "$code" != 0 ]; then exit 1; fi', "(null) passes"),
        (EMPTY + "exit ${code:-0}", "(null) passes"),
        (EMPTY.replace("empty", '""') + "exit $code", "(null) passes"),
        (JSON + 'if [ "$code" != null ] && [ "$code" != 0 ]; then exit 1; fi', "(null) passes"),
        (
            CODE.replace(" --output text)", ")") + '[ "$code" = null ] || [ "$code" = 0 ]',
            "(null) passes",
        ),
    ],
)
def test_an_exit_code_that_decides_nothing_is_found(text: str, how: str) -> None:
    found, said = judged(text)
    assert found == "lost"
    assert how in said


@pytest.mark.parametrize(
    "text",
    [
        'for i in $(seq 1 "$MAX"); do npm run migrate && break; [ $i = "$MAX" ] && exit 1; done',
        'npm run migrate || code=1\n[ "${{ steps.check.outputs.code }}" = 0 ]',
        "trap 'exit 0' EXIT\nnpm run migrate",
        "npm run migrate | tee log\necho ${PIPESTATUS[0]}\nexit ${PIPESTATUS[0]}",
        "coproc npm run migrate",
        "coproc M { npm run migrate; }\nwait $M_PID",
        "npm run migrate | | tee",
        f"{TASK}{DESCRIBE} | xargs check",
        f"{CODE}let 'code==0' || exit 1",
        "python3 - <<'PY'\nimport os\nos.system('npm run migrate')\nPY",
        f"{TASK}{DESCRIBE} | grep -q 0",
        f"{TASK}{DESCRIBE} > code.txt\n./check.sh code.txt",
        f"code_of() {{ {DESCRIBE}; }}\n{TASK}code_of | xargs check",
        "a() { b; }\nb() { a; npm run migrate; }\na",
    ],
)
def test_what_is_not_understood_is_undecided(text: str) -> None:
    assert judged(text)[0] == "open"


SCRIPT = "#!/usr/bin/env bash\nset -euo pipefail\nnpm run migrate\necho done\n"


@pytest.mark.parametrize(
    ("call", "script", "found"),
    [
        ("./scripts/db.sh", SCRIPT, "sound"),
        ("bash scripts/db.sh freeside", SCRIPT, "sound"),
        ("source scripts/db.sh", SCRIPT, "sound"),
        ("scripts/db.sh || true", SCRIPT, "lost"),
        ("scripts/db.sh | tee log", SCRIPT, "lost"),
        ("scripts/db.sh", SCRIPT.replace("set -euo pipefail\n", ""), "lost"),
        (
            "scripts/db.sh",
            SCRIPT.replace("set -euo pipefail\n", "").replace("env bash", "env -S bash -e"),
            "sound",
        ),
        # the line with #! counts only where the script itself is run
        ("bash scripts/db.sh", "#!/bin/bash -e\nnpm run migrate\necho done\n", "lost"),
        ("bash -e scripts/db.sh", "#!/bin/bash\nnpm run migrate\necho done\n", "sound"),
        ("scripts/migrate.py", "#!/usr/bin/env python3\nimport x\n", "sound"),
        ("scripts/migrate", "#!/usr/bin/env python3\nimport x\n", "open"),
        ("python3 scripts/migrate", "import x\n", "open"),
        ("/usr/bin/python3 scripts/migrate", "import x\n", "open"),
    ],
)
def test_scripts_of_the_checkout_are_followed(call: str, script: str, found: str) -> None:
    path = next(word for word in call.removeprefix("./").split() if "/" in word and word[0] != "/")
    assert judged(call, files={path: script})[0] == found


TASK_OF = (
    "set -e\n"
    + CODE.replace("definition m", "definition $1-migration")
    + 'if [ "$code" != "0" ]; then exit 1; fi\n'
)
OF_ALL = "pids=()\nfor s in a b; do scripts/task.sh $s & pids+=($!); done\n"
OF_NAMES = "pids\nfor s in a b; do scripts/task.sh $s & pids[$s]=$!; done\n"
OF_TEXT = 'pids=""\nfor s in a b; do scripts/task.sh $s & pids="$pids $!"; done\n'
OF_TWO = "scripts/task.sh a & one=$!\nscripts/task.sh b & other=$!\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{OF_TWO}wait $one $other", "lost"),
        (f"{OF_TWO}wait $other $one", "lost"),
        (f"{OF_TWO}wait", "lost"),
        (f"{OF_TWO}wait $one\nwait $other", "sound"),
        (f"{OF_TWO}wait $other && wait $one", "sound"),
        ("scripts/task.sh a & one=$!\nscripts/task.sh b\nwait $one", "sound"),
        ("scripts/task.sh a & one=$!\nscripts/task.sh b", "lost"),
        (f'{OF_ALL}for p in "${{pids[@]}}"; do wait "$p"; done', "sound"),
        (f'{OF_ALL}for p in "${{pids[@]:-}}"; do wait "$p" || exit 1; done', "sound"),
        (f'declare -a {OF_ALL.replace("=()", "")}for p in "${{pids[@]}}"; do wait "$p"; done', "sound"),
        (f'{OF_ALL}bad=0\nfor p in "${{pids[@]}}"; do wait "$p" || bad=1; done\nexit "$bad"', "sound"),
        (
            f"{OF_ALL}bad=()\nfor p in ${{pids[@]}}; do wait $p || bad+=($p); done\n((${{#bad[@]}} == 0))",
            "sound",
        ),
        (f'{OF_ALL}for p in "${{pids[@]}}"; do wait "$p" || echo "$p failed"; done', "lost"),
        (f'{OF_ALL}for p in "${{pids[@]}}"; do wait "$p" || bad=1; done', "lost"),
        (f'{OF_ALL}wait "${{pids[@]}}"', "lost"),
        (f'{OF_ALL}for p in "${{pids[@]:1}}"; do wait "$p"; done', "open"),
        (f'{OF_ALL}for i in "${{!pids[@]}}"; do wait "${{pids[$i]}}"; done', "sound"),
        (f'{OF_ALL}wait "${{pids[0]}}"; wait ${{pids[1]}}', "sound"),
        (f'{OF_ALL}wait "${{pids[0]}}"', "lost"),
        (f'{OF_ALL}for ((i=0;i<${{#pids[@]}};i++)); do wait "${{pids[i]}}"; done', "open"),
        (f'{OF_ALL}bad=0\nfor p in "${{pids[@]}}"; do wait "$p" || ((bad+=1)); done\nexit "$bad"', "sound"),
        (f'{OF_ALL}bad=0\nfor p in "${{pids[@]}}"; do wait "$p" || ((bad-=1)); done\nexit 0', "lost"),
        (f'declare -A {OF_NAMES}for s in "${{!pids[@]}}"; do wait "${{pids[$s]}}"; done', "open"),
        (f'{OF_TEXT}for p in $pids; do wait "$p"; done', "open"),
        (f"{OF_TEXT}wait $pids", "open"),
        ("n=3\nwhile ((n-=1)); do scripts/task.sh a && exit 0; done\nexit 1", "sound"),
        ("n=3\nwhile ((n--)); do scripts/task.sh a && exit 0; done\nexit 0", "lost"),
        (OF_ALL.replace("+=(", '=("${pids[@]}" ') + 'for p in "${pids[@]}"; do wait "$p"; done', "sound"),
        ('scripts/task.sh a & p="$!"\nwait "$p"', "sound"),
    ],
)
def test_tasks_in_the_background_end_each_for_itself(text: str, found: str) -> None:
    assert judged(text, files={"scripts/task.sh": TASK_OF})[0] == found


def test_an_exit_code_that_a_script_prints_may_be_read_by_its_caller() -> None:
    files = {"scripts/ask.sh": f"#!/bin/bash -e\ntask=$1\n{DESCRIBE}\n"}
    assert judged(f'{TASK}code=$(scripts/ask.sh $task)\n[ "$code" = 0 ]', files=files)[0] == "open"


def test_without_errexit_each_line_loses_the_status_of_the_one_before() -> None:
    assert judged("npm run migrate\necho done", errexit=False)[0] == "lost"
    assert judged("npm run migrate", errexit=False)[0] == "sound"


def test_a_long_script_takes_little_time() -> None:
    lines = [
        f'x{n}=$(check {n}) || true\nif [ "$x{n}" = y ]; then npm run migrate-{n} || exit 1; fi'
        for n in range(200)
    ]
    began = time.process_time()
    assert judged("\n".join(lines)) == ("sound", "")
    assert time.process_time() - began < 2.0


#: Common scripts, by the effect of a failed migration in them.
OF_MANY = "pids=()\nfor s in a b; do npm run migrate -- $s & pids+=($!); done\n"
WRITTEN = {
    "sound": [
        "migrate() {\n  npm run migrate\n}\nmigrate\necho done",
        ("function migrate {\n  npm run migrate || return 1\n  echo done\n}\nif ! migrate; then exit 1; fi"),
        "die() { echo \"$1\" >&2; exit 1; }\nnpm run migrate || die 'no'",
        'run() { "$@"; }\nrun npm run migrate\necho',
        ('retry() { for i in 1 2 3; do "$@" && return 0; sleep 1; done; return 1; }\nretry npm run migrate'),
        (
            'retry() { local n=0; until "$@"; do n=$((n+1)); [ $n -ge 3 ] && return 1; sleep 2; done; }\n'
            "retry npm run migrate"
        ),
        "set -euo pipefail\nnpm run migrate 2>&1 | tee log",
        "set -Eeuo pipefail\nnpm run migrate 2>&1 | tee log",
        "set -e -o pipefail\nnpm run migrate 2>&1 | tee log",
        "set -o errexit -o nounset -o pipefail\nnpm run migrate 2>&1 | tee log",
        "shopt -s inherit_errexit\nnpm run migrate",
        "trap 'echo failed' ERR\nnpm run migrate\necho",
        "trap 'rm -f /tmp/x' EXIT\nnpm run migrate\necho",
        "trap cleanup EXIT\ncleanup() { rm -f x; }\nnpm run migrate\necho",
        "trap '' ERR\nnpm run migrate",
        "bash <<'EOF'\nset -e\nnpm run migrate\necho\nEOF",
        "ssh host 'npm run migrate && echo ok'",
        "cat > x.sh <<'EOF'\nnpm run migrate || true\nEOF\nnpm run migrate",
        "cat <<EOF > plan\nnpm run migrate\nEOF\nnpm run migrate\necho",
        "psql \"$URL\" <<'SQL'\nselect 1;\nSQL\nnpm run migrate",
        "echo freeside dixie | xargs -n1 npm run migrate --",
        "timeout 300 npm run migrate\necho",
        "env FOO=1 bash -ec 'npm run migrate; echo'",
        "bash -lc 'npm run migrate'",
        "bash -lec 'npm run migrate; echo done'",
        'sh -c "set -e; npm run migrate; echo"',
        "bash -Eceu 'npm run migrate; echo'",
        "docker compose run --rm api npm run migrate\necho",
        "time npm run migrate\necho",
        "exec npm run migrate",
        "eval npm run migrate\necho",
        'cmds=(npm run migrate)\n"${cmds[@]}"\necho',
        'services=(freeside dixie)\nfor s in "${services[@]}"; do npm run migrate -- "$s"; done',
        "fail=0\nfor s in a b; do npm run migrate -- $s || fail=1; done\nexit $fail",
        "fail=0\nfor s in a b; do npm run migrate -- $s || ((fail++)) || true; done\n(( fail == 0 ))",
        'while read -r s; do npm run migrate -- "$s"; done < services.txt',
        'cat services.txt | while read -r s; do npm run migrate -- "$s"; done',
        'while IFS= read -r s; do npm run migrate -- "$s" || exit 1; done <<< "$LIST"',
        'while read -r s; do npm run migrate -- "$s"; done < <(ls)',
        'out=$(npm run migrate 2>&1) || { echo "$out"; exit 1; }',
        'out=$(npm run migrate 2>&1)\necho "$out"',
        "npm run migrate; status=$?\nif (( status )); then exit $status; fi",
        "npm run migrate || (exit 1)",
        "npm run migrate || exit",
        "npm run migrate || false",
        "set -o pipefail; npm run migrate |& tee log",
        "npm run migrate > >(tee log) 2>&1",
        '[[ -n "$SKIP" ]] || npm run migrate',
        '[ "$ENV" = prod ] && npm run migrate',
        "make migrate",
        "make -k migrate",
        "make -C db migrate || exit 1",
        "npm run migrate --if-present",
        "npm run migrate | tee log; exit ${PIPESTATUS[0]}",
        'npm run migrate | tee log\nif [ "${PIPESTATUS[0]}" -ne 0 ]; then exit 1; fi',
        "a=0; b=0\nnpm run migrate -- a || a=$?\nnpm run migrate -- b || b=$?\n[ $a -eq 0 -a $b -eq 0 ]",
        'npm run migrate || a=$?\nif [ -n "$X" -o ${a:-0} -ne 0 ]; then exit 1; fi',
        "cd services/api && alembic upgrade head\necho",
        "npx prisma db push\necho",
        "dbmate --wait up\necho",
        "docker compose up --exit-code-from migrate migrate",
        "cid=$(docker run -d app npm run migrate)\ncode=$(docker wait $cid)\n[ $code -eq 0 ]",
        "psql -v ON_ERROR_STOP=1 -f migrations/001.sql\necho",
        "psql -v ON_ERROR_STOP=1 < migrations/001.sql\necho",
        "mysql -h db app < migrations/001.sql\necho",
        "select x in a; do npm run migrate; done",
        "until npm run migrate; do sleep 1; done",
        "for ((i=0;i<3;i++)); do npm run migrate && exit 0; done; exit 1",
        (
            "wait_for() { for i in {1..5}; do nc -z db 5432 && return 0; sleep 1; done; return 1; }\n"
            "wait_for\n"
            "npm run migrate"
        ),
    ],
    "lost": [
        "migrate() {\n  npm run migrate\n  echo done\n}\nmigrate || echo failed",
        "migrate() {\n  npm run migrate\n  echo done\n}\nif migrate; then echo ok; else exit 1; fi",
        "warn() { echo \"$1\" >&2; }\nnpm run migrate || warn 'no'",
        'run() { "$@" || true; }\nrun npm run migrate\necho',
        'retry() { for i in 1 2 3; do "$@" && return 0; sleep 1; done; }\nretry npm run migrate',
        "set -eu\nnpm run migrate 2>&1 | tee log",
        "set +o errexit\nnpm run migrate\necho",
        "bash -s <<'EOF'\nnpm run migrate\necho\nEOF",
        "ssh host <<'EOF'\nnpm run migrate\necho\nEOF",
        "ssh host 'npm run migrate; echo ok'",
        "docker run --rm -i img sh <<'EOF'\nnpm run migrate\necho\nEOF",
        "printf '%s\\n' a b | xargs -I{} sh -c 'npm run migrate -- {} || true'",
        "printf '%s\\n' a b | xargs -I{} bash -c 'npm run migrate -- {}; echo {}'",
        "timeout --signal=KILL 5m npm run migrate || true",
        "timeout 300 bash -c 'npm run migrate; echo done'",
        "env -S bash -c 'npm run migrate; echo'",
        "bash -lc 'npm run migrate; echo done'",
        "bash -ce 'npm run migrate || true'",
        "sudo -u app bash -c 'npm run migrate; true'",
        "nice -n 5 npm run migrate || true",
        "docker compose run --rm api sh -c 'npm run migrate; echo'",
        "docker exec api bash -c 'npm run migrate || true'",
        "kubectl exec deploy/api -- sh -c 'npm run migrate; echo'",
        "command npm run migrate || :",
        "eval 'npm run migrate || true'",
        'cmds=(npm run migrate)\n"${cmds[@]}" || true',
        (
            "services=(freeside dixie)\n"
            'for s in "${services[@]}"; do npm run migrate -- "$s" || echo bad; done'
        ),
        ('failed=()\nfor s in a b; do npm run migrate -- $s || failed+=("$s"); done\necho "${failed[@]}"'),
        "for s in a b; do npm run migrate -- $s & done\nwait",
        'cat services.txt | while read -r s; do npm run migrate -- "$s" || true; done',
        'while read -r s; do npm run migrate -- "$s" || break; done < list\necho done',
        "local_out() { local out=$(npm run migrate); echo $out; }\nlocal_out",
        'echo "$(npm run migrate)"',
        "export OUT=$(npm run migrate)",
        "npm run migrate || status=$?\necho ${status:-0}",
        'if npm run migrate; then :; else echo "::error::failed"; fi',
        "npm run migrate || exit 0",
        "! npm run migrate",
        "npm run migrate |& tee log",
        "{ npm run migrate; } 2>&1 | sed s/x/y/",
        "make -i migrate",
        "a=0; b=0\nnpm run migrate -- a || a=$?\nnpm run migrate -- b || b=$?\n[ $a -eq 0 -o $b -eq 0 ]",
        "alembic upgrade head || true",
        "docker compose up migrate",
        "docker compose -f x.yml up -d migrate",
        "docker run -d app npm run migrate",
        "docker exec -d api npm run migrate",
        'psql "$URL" < migrations/001.sql',
        "! npm run migrate | grep -q failed",
        "docker run --rm --detach app npm run migrate",
        'psql "$URL" -f migrations/001.sql',
        "npx prisma migrate deploy || npx prisma migrate resolve --applied x",
        "for ((i=0;i<3;i++)); do npm run migrate && break; done",
    ],
    "open": [
        "cid=$(docker run -d app npm run migrate)\ndocker wait $cid",
        "trap cleanup EXIT\ncleanup() { rm -f x; exit 0; }\nnpm run migrate\necho",
        "trap 'exit 0' ERR\nnpm run migrate",
        "set +e\ntrap 'exit 1' ERR\nnpm run migrate\necho done",
        (
            "failed=()\n"
            'for s in a b; do npm run migrate -- $s || failed+=("$s"); done\n'
            "[ ${#failed[@]} -eq 0 ]"
        ),
        OF_MANY.replace("a b", "a b c d e f") + 'for p in "${pids[@]}"; do wait "$p"; done',
    ],
}


@pytest.mark.parametrize(("text", "found"), [(text, found) for found in WRITTEN for text in WRITTEN[found]])
def test_what_people_write_is_judged(text: str, found: str) -> None:
    assert judged(text)[0] == found


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("timeout 60 npm run migrate || [ $? -eq 124 ]", "lost"),
        ("timeout 60 npm run migrate || test $? -eq 124", "lost"),
        ("timeout 60 npm run migrate || { rc=$?; [ $rc -eq 124 ] || exit $rc; }", "lost"),
        ("npm run migrate || rc=$?\nif [ ${rc:-0} -ne 0 ]; then exit 1; fi", "sound"),
        ("set +e\nnpm run migrate\nrc=$?\nif [ $rc -ne 0 ] && [ $rc -ne 124 ]; then exit $rc; fi", "lost"),
        ("npm run migrate || [ $? -eq 0 ]", "sound"),
        ("npm run migrate || { rc=$?; [ $rc -eq 124 ] && echo late; exit $rc; }", "sound"),
        ("npm run migrate || [ $? -eq 3 ]", "open"),
        (
            "set +e\nnpm run migrate | tee log\nrc=${PIPESTATUS[0]}\nif [ $rc -ne 2 ]; then exit $rc; fi",
            "open",
        ),
    ],
)
def test_a_custom_exit_code_is_followed(text: str, verdict: str) -> None:
    assert judged(text)[0] == verdict


def test_ignore_names_the_rules_whose_failure_make_ignores() -> None:
    rules = "migrate:\n\tnpm run migrate\nother:\n\ttrue\n"
    for names, verdict in (("", "lost"), (" migrate", "lost"), (" other", "sound")):
        assert judged("make migrate", files={"Makefile": f".IGNORE:{names}\n{rules}"})[0] == verdict


@pytest.mark.parametrize("errexit", [True, False])
@pytest.mark.parametrize(
    ("text", "how"),
    [
        (CODE + 'if [ "$code" -ne 0 ]; then exit 1; fi', "(null) passes"),
        (CODE + '[ "$code" -ne 0 ] && exit 1\necho ok', "(null) passes"),
        (f'{TASK}while [ "$({DESCRIBE})" -ne 0 ]; do sleep 5; done', "(null) passes"),
        (
            f'{TASK}for i in $(seq 1 60); do code=$({DESCRIBE}); if [ "$code" -ne 0 ]; then exit 1; fi; done',
            "(null) passes",
        ),
        (CODE + 'echo "$code" || true', ""),
    ],
)
def test_a_code_that_is_read_is_lost_by_what_is_done_with_it(text: str, how: str, errexit: bool) -> None:
    assert judged(text, errexit=errexit)[0] == "lost"
    assert how in judged(text, errexit=errexit)[1]
    assert "set -e" not in judged(text, errexit=errexit)[1]
