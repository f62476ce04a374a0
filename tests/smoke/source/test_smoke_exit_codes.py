"""Exit codes of migration tasks as deploy scripts read them: right ones pass, wrong ones are found."""

import pytest

from tests.smoke.source.workflow_files import judged

RUN = """\
id="$(aws ecs run-task --cluster "$C" --task-definition "$D" --query 'tasks[0].taskArn' --output text)"
"""
WAIT = RUN + 'aws ecs wait tasks-stopped --cluster "$C" --tasks "$id"\n'
ASK = """aws ecs describe-tasks --tasks "$id" --query 'tasks[0].containers[0].exitCode' --output text"""
POLL = """\
for i in {1..60}; do
  status=$(aws ecs describe-tasks --query 'tasks[0].lastStatus' --output text)
  if [ "$status" = STOPPED ]; then break; fi
  sleep 10
done
"""
FUNCTION = f"""\
ended() {{
  aws ecs wait tasks-stopped --tasks "$1"
  local code
  code=$({ASK})
  [ "$code" = 0 ]
}}
"""
BY_NAME = """jq -er '.tasks[0].containers[] | select(.name == "app") | .exitCode' <<<"$task\""""
ALL = "jq -e 'all(.tasks[].containers[]; .exitCode == 0)' task.json > /dev/null"

SOUND = {
    "by the container's name": WAIT
    + f'task="$(aws ecs describe-tasks --tasks "$id")"\ncode="$({BY_NAME})"\n[[ "$code" == "0" ]] || exit 1',
    "logs beside": RUN
    + f'aws logs tail x --follow &\npid=$!\naws ecs wait tasks-stopped --tasks "$id"\nkill "$pid" || true\n'
    f'code=$({ASK})\nif [ "$code" != "0" ]; then exit 1; fi\necho done',
    "a limit": RUN
    + f'if ! timeout 15m aws ecs wait tasks-stopped --tasks "$id"; then exit 1; fi\ncode=$({ASK})\n'
    'if [[ "$code" != "0" ]]; then echo "$code"; exit 1; fi',
    "else": WAIT + f'code=$({ASK})\nif [ "$code" == "0" ]; then echo ok; else echo "$code"; exit 1; fi',
    "a function": FUNCTION + RUN + 'ended "$id"',
    "a function that is asked": FUNCTION + RUN + 'if ! ended "$id"; then exit 1; fi',
    "polled": RUN + POLL + f'code=$({ASK})\n[ "$code" = "0" ] || exit 1',
    "all of a file": WAIT + f"aws ecs describe-tasks --tasks $id > task.json\n{ALL}",
    "all of a file, negated": WAIT
    + f"aws ecs describe-tasks --tasks $id > task.json\nif ! {ALL}; then exit 1; fi",
    "a default": WAIT + f'code=$({ASK})\nexit "${{code:-1}}"',
    "none is one": WAIT
    + f'code=$({ASK})\nif [ "$code" = None ] || [ -z "$code" ]; then code=1; fi\nexit $code',
    "a number": WAIT
    + f'code=$({ASK})\n[[ "$code" =~ ^[0-9]+$ ]] || exit 1\nif (( code != 0 )); then exit 1; fi',
    "instead of one": WAIT + f'code=$({ASK} || echo unknown)\nif [ "$code" != 0 ]; then exit 1; fi',
    "only where it stopped": RUN
    + f'aws ecs wait tasks-stopped --tasks $id && code=$({ASK}); if [ "$code" != 0 ]; then exit 1; fi',
}


@pytest.mark.parametrize("errexit", [True, False])
@pytest.mark.parametrize("name", SOUND)
def test_an_exit_code_that_decides_is_sound(name: str, errexit: bool) -> None:
    assert judged(SOUND[name], errexit=errexit) == ("sound", "")


INSTEAD = f"""\
code=$({ASK} 2>/dev/null || echo "null")
if [ "$code" != 0 ] && [ "$code" != "null" ]; then exit 1; fi
"""


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (INSTEAD, "cannot be read passes"),
        (f'code=$({ASK} || true)\nif [ -n "$code" ] && [ "$code" != 0 ]; then exit 1; fi', "cannot be read"),
        (f'code=$({ASK})\nif [ "$code" -gt 0 ]; then exit 1; fi', "(null) passes"),
        (f'code=$({ASK})\ncase "$code" in [1-9]*) exit 1 ;; esac', "(null) passes"),
    ],
)
def test_a_missing_exit_code_counts_as_lost(text: str, how: str) -> None:
    found, said = judged(WAIT + text)
    assert found == "lost"
    assert how in said


@pytest.mark.parametrize(
    ("options", "text", "verdict"),
    [
        ("set -eu", "(( code == 0 )) || exit 1", "sound"),
        ("set -e", "(( code == 0 )) || exit 1", "lost"),
        ("set -euo pipefail", "[[ $code -eq 0 ]] || exit 1", "sound"),
        ("set -o nounset", "if (( code != 0 )); then exit 1; fi", "sound"),
        ("set -u", "exit $((code > 0))", "sound"),
        ("set -u", 'exit "$(( code != 0 ? 1 : 0 ))"', "sound"),
        ("set +u", "exit $((code > 0))", "lost"),
        ("set -u", "exit $((code < 0))", "lost"),
    ],
)
def test_arithmetic_ends_a_strict_script_at_a_missing_exit_code(
    options: str, text: str, verdict: str
) -> None:
    assert judged(f"{options}\n{WAIT}code=$({ASK})\n{text}")[0] == verdict


def started(name: str, of: str) -> str:
    return f'{name}="$(aws ecs run-task --task-definition {of} --query "tasks[0].taskArn" --output text)"\n'


TWO = started("a", "x-migration") + started("b", "y-migration")
IN_TURN = started("ids", "x-migration") + started("ids+", "y-migration")
MAPPED = "declare -A ids\n" + started("ids[x]", "x-migration")
CHECK = f'do code=$({ASK}); [ "$code" = 0 ] || exit 1; done'
OF_ALL = "aws ecs describe-tasks --tasks $a $b --query 'tasks[].containers[0].exitCode' --output text"
QUOTED = '"$a"'
CODES = 'do [ "$code" = 0 ] || exit 1; done'


@pytest.mark.parametrize(
    ("text", "said", "how"),
    [
        (f'{TWO}for id in "$a" "$b"; {CHECK}', "sound", ""),
        (f'{TWO}for id in "$a" "$b"; do ended "$id"; done', "sound", ""),
        (f'{TWO}for id in "$a"; {CHECK}', "lost", ""),
        (f"{TWO}for id in $a $b; {CHECK}", "open", "for id in $a $b"),
        (f"{IN_TURN}for id in $ids; {CHECK}", "open", "for id in $ids"),
        (f'{IN_TURN}for id in $ids; do ended "$id"; done', "open", "for id in $ids"),
        (f'{MAPPED}for id in "${{ids[@]}}"; {CHECK}', "open", "for id in"),
        (f"{TWO}for code in $({OF_ALL}); {CODES}", "open", "for code in"),
        (f"{TWO}codes=$({OF_ALL})\nfor code in $codes; {CODES}", "sound", ""),
        (f"{TWO}codes=$({OF_ALL.replace('$a $b', QUOTED)})\nfor code in $codes; {CODES}", "lost", ""),
        (f'{TWO}mapfile -t codes < <({OF_ALL})\nfor code in "${{codes[@]}}"; {CODES}', "open", "mapfile"),
        (f"{TWO}aws ecs describe-tasks --tasks $a $b | {ALL.partition(' task.json')[0]}", "sound", ""),
        (f"{TWO}aws ecs describe-tasks --tasks $a $b > task.json\n{ALL}", "sound", ""),
    ],
)
def test_every_task_that_a_script_starts_must_be_read(text: str, said: str, how: str) -> None:
    found, why = judged(FUNCTION + text)
    assert found == said
    assert how in why
