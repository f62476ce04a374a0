"""What becomes of a failed migration in a script: every way of losing it is found, a sound script passes."""

import time

import pytest

from smoke.source.state import State
from smoke.source.ways import Ways

TASK = """\
task="$(aws ecs run-task --cluster c --task-definition m --query 'tasks[0].taskArn' --output text)"
aws ecs wait tasks-stopped --tasks "$task"
"""
DESCRIBE = (
    """aws ecs describe-tasks --tasks "$task" --query 'tasks[0].containers[0].exitCode' --output text"""
)
CODE = f"{TASK}code=$({DESCRIBE})\n"
JQ = f"{TASK}code=$(aws ecs describe-tasks --tasks $task | jq -r '.tasks[0].containers[0].exitCode')\n"


def judged(text: str, *, errexit: bool = True, files: dict[str, str] | None = None) -> tuple[str, str]:
    """Return "sound", "lost" or "open" for a script, and how a failure is lost or what is open."""
    ways = Ways((files or {}).get, "w.yml")
    lost = [state for state in ways.through(text, {State(errexit=errexit)}) if state.ok and state.failed]
    assert ways.migrations, "nothing migrates"
    sure = [state.how for state in lost if not state.guess]
    if sure:
        return "lost", min(sure, key=lambda how: ("(null)" in how, how))
    unread = [state.guess for state in lost] + [each.command for each in ways.unread]
    return ("open", unread[0]) if unread else ("sound", "")


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
def test_a_retry_that_is_right_is_not_blamed(text: str) -> None:
    assert judged(text) == ("sound", "")


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("npm run migrate | tee log", "no pipefail in force"),
        ("npm run migrate 2>&1 | tee log | cat", "no pipefail in force"),
        ("npm run migrate || true", "`|| true` goes on"),
        ("npm run migrate || :", "`|| :` goes on"),
        ("npm run migrate || echo failed", "`|| echo failed` goes on"),
        ("npm run migrate || curl -d failed https://chat", "goes on"),
        ("npm run migrate && echo ok\necho next", "does not end the script"),
        ("! npm run migrate", "turns it around"),
        ("if ! npm run migrate; then echo failed; fi", "turns it around"),
        ("if npm run migrate; then echo ok; fi", "no branch that ends the script"),
        ("if npm run migrate | grep -q error; then exit 1; fi", "no pipefail"),
        ("npm run migrate &", "in the background"),
        ("npm run migrate &\nwait", "in the background"),
        ("bash -c 'npm run migrate; echo done'", "no set -e in force"),
        ("docker run -e A=b image sh -c 'npm run migrate; echo x'", "no set -e in force"),
        ("sh -c 'npm run migrate || true'", "goes on"),
        ("eval 'npm run migrate; true'", "no set -e in force"),
        ("bash <<EOF\nnpm run migrate\necho\nEOF", "no set -e in force"),
        ('echo "$(npm run migrate)"', "hides the status"),
        ("echo `npm run migrate`", "hides the status"),
        ("export out=$(npm run migrate)", "`export` hides the status"),
        ("readonly out=$(npm run migrate)", "`readonly` hides the status"),
        ("f() { local out=$(npm run migrate); }\nf", "`local` hides the status"),
        ("set +e\nnpm run migrate\necho x", "no set -e in force"),
        ("set +o errexit\nnpm run migrate\necho x", "no set -e in force"),
        ("set +e\nnpm run migrate\ncode=$?\necho $code", "no set -e in force"),
        ("npm run migrate || code=$?\necho $code", "goes on"),
        ("f() { npm run migrate; echo done; }\nf || exit 1", "no set -e in force"),
        ("for i in 1 2 3; do npm run migrate && break; sleep 1; done", "does not end the script"),
        ("for each in a b; do npm run migrate $each || true; done", "goes on"),
        ("set +e\nfor each in a b; do npm run migrate $each; done", "no set -e in force"),
        ("npm run migrate-a || true\nnpm run migrate-b", "goes on"),
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
        (CODE + 'echo "ended with $code"', ""),
        (CODE + 'if [ "$code" = "1" ]; then exit 1; fi', ""),
        (CODE + 'if [ "$code" != "0" ]; then echo failed; fi', ""),
        (CODE + 'if [ "$code" -ne 0 ]; then exit 1; fi', "(null) passes"),
        (CODE + '[[ "$code" -eq 0 ]] || exit 1', "(null) passes"),
        (CODE + "(( code == 0 )) || exit 1", "(null) passes"),
        (CODE + 'if [ "$code" != "None" ] && [ "$code" != "0" ]; then exit 1; fi', "(null) passes"),
        (JQ.replace("exitCode", "exitCode // 0") + '[ "$code" = 0 ]', "(null) passes"),
        (f"{TASK}code=$({DESCRIBE} || echo 0)\n" + '[ "$code" = 0 ]', "(null) passes"),
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
        "npm run migrate | tee log; exit ${PIPESTATUS[0]}",
        "coproc npm run migrate",
        "coproc M { npm run migrate; }\nwait $M_PID",
        "npm run migrate | | tee",
        f"{TASK}{DESCRIBE} | xargs check",
        "a() { b; }\nb() { a; npm run migrate; }\na",
    ],
)
def test_what_is_not_understood_is_open(text: str) -> None:
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
    ],
)
def test_scripts_of_the_checkout_are_followed(call: str, script: str, found: str) -> None:
    path = next(word for word in call.removeprefix("./").split() if "/" in word)
    assert judged(call, files={path: script})[0] == found


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
