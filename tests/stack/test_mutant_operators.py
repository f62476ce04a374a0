"""Mutation operators for Python, each on the smallest source that it applies to."""

import ast
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from stack.host import StackError
from stack.launch import VARIANTS
from stack.mutants import catalogue, source
from stack.mutants.catalogue import (
    ENTRIES,
    GROUPS,
    file_of,
    find,
    group_of,
    modules,
    mutants,
    of_module,
    path_of,
    services_of,
)
from stack.mutants.operators import edits
from stack.mutants.source import applied


def changed(source: str, operator: str) -> list[str]:
    """Return what an operator makes of the body of a function, each as one normalised text."""
    program = "def f(a, b):\n" + "".join(f"    {line}\n" for line in dedent(source).strip().splitlines())
    made = [applied(program, edit) for edit in edits(program) if edit.operator == operator]
    return ["; ".join(map(ast.unparse, ast.parse(each).body[0].body)) for each in made]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "operator", "results"),
    [
        ("x = a <= b", "comparison", ["x = a < b"]),
        ("x = 0 < a <= 9", "comparison", ["x = 0 <= a <= 9", "x = 0 < a < 9"]),
        ("x = a == b", "comparison", ["x = a != b"]),
        ("x = a == b", "prefix", ["x = str(a).startswith(str(b))"]),
        ("x = a != b", "prefix", ["x = not str(a).startswith(str(b))"]),
        ("x = a == b", "membership", ["x = str(a) in str(b)"]),
        ("x = a == b", "case-blind", ["x = str(a).lower() == str(b).lower()"]),
        ("x = a in b", "case-blind", ["x = str(a).lower() in [str(each).lower() for each in b]"]),
        ("x = a == 3", "prefix", []),
        ("x = a and b", "and-or", ["x = a or b"]),
        ("x = a and b", "condition-dropped", ["x = b", "x = a"]),
        ("if a:\n    f()", "condition", ["if True:\n    f()", "if False:\n    f()"]),
        ("x = [e for e in a if e]", "condition", ["x = [e for e in a if True]"]),
        ("return a < b", "condition", ["return True", "return False"]),
        ("x = not a", "negation", ["x = a"]),
        ("x = a + b", "arithmetic", ["x = a - b"]),
        ("x = a + 'text'", "arithmetic", []),
        ("a.n += 1", "statement-dropped", ["pass"]),
        ("a.n = b", "statement-dropped", ["pass"]),
        ("f(a)", "call-dropped", ["pass"]),
        ("_log.info(a)", "call-dropped", []),
        ("x = 7", "constant", ["x = 8", "x = 6"]),
        ("x = 0.5", "constant", ["x = 1.0", "x = 0.25"]),
        ("x = True", "constant", ["x = False"]),
        ("x = a['key']", "string", ["x = a['keyx']"]),
        ("x = f'{a}/health'", "string", ["x = f'{a}/healthx'"]),
        ("raise ApiError(4, 'CODE', 'words')", "string", ["raise ApiError(4, 'CODEx', 'words')"]),
        ("x = 'a{1,9}'", "bound", ["x = 'a{2,9}'", "x = 'a{0,9}'", "x = 'a{1,10}'", "x = 'a{1,8}'"]),
        ("x = min(a, b)", "call", ["x = max(a, b)"]),
        ("x = a.fullmatch(b)", "call", ["x = a.match(b)"]),
        ("x = a.strip()", "normaliser-dropped", ["x = a"]),
        ("x = a.get('k', b)", "default", ["x = a.get('k', None)"]),
        ("f(a, b)", "arguments", ["f(b, a)"]),
        ("x = {'a': 1, 'b': 2}", "member-dropped", ["x = {'b': 2}", "x = {'a': 1}"]),
        ("with a.lock:\n    f()", "lock", ["with __import__('contextlib').nullcontext():\n    f()"]),
        ("with a.open() as b:\n    f()", "lock", []),
        ("f(a)\ng(b)", "order", ["g(b); f(a)"]),
        ("x = f(a)\ng(x)", "order", []),
    ],
)  # fmt: skip
def test_operator(source: str, operator: str, results: list[str]) -> None:
    assert changed(source, operator) == results


def test_what_an_exception_handler_does_is_dropped() -> None:
    assert changed("try:\n    f()\nexcept E:\n    raise\nfinally:\n    g()", "exception-swallowed") == [
        "try:\n    f()\nexcept E:\n    pass\nfinally:\n    g()"
    ]
    assert changed("try:\n    f()\nfinally:\n    g()", "finally-dropped") == [
        "try:\n    f()\nfinally:\n    pass"
    ]


def test_a_function_returns_early() -> None:
    source = "async def f() -> bool:\n    '''Words.'''\n    g()\n    return h()\n"
    made = [applied(source, edit) for edit in edits(source) if edit.operator == "early-return"]
    assert [each.splitlines()[2].strip() for each in made] == ["return True", "return False"]


def test_a_function_returns_early_at_a_line_that_runs() -> None:
    source = "def f():\n    def g():\n        nonlocal n\n        n = 1\n    n = 0\n    g()\n"
    (edit,) = (each for each in edits(source) if each.function == "f.g" and each.operator == "early-return")
    assert (edit.first, edit.last) == (4, 4)


def test_annotations_decorators_and_words_for_people_are_left_alone() -> None:
    source = '''
    import logging
    _log = logging.getLogger("a")
    Alias = dict[str, "int"]

    @decorated(1)
    class A:
        """Words."""
        x: "int"

        def f(self, a: "str") -> "str":
            """Words."""
            raise bad_request("a")
    '''
    assert not [edit for edit in edits(dedent(source)) if edit.operator != "early-return"]


STATEMENT = """
UPDATE t SET n = n + 1, answer = NULL
WHERE key = %s AND state = 'held' AND until <= now() - interval '24 hours' FOR UPDATE
"""


@pytest.mark.parametrize(
    ("operator", "before", "after"),
    [
        ("sql-condition", "WHERE key = %s ", "WHERE true "),
        ("sql-condition", "AND state = 'held' ", "AND true "),
        ("sql-case-blind", "WHERE key = %s ", "WHERE lower(key::text) = lower(%s::text) "),
        ("sql-assignment", " n = n + 1,", " "),
        ("sql-assignment", ", answer = NULL\n", " "),
        ("sql-operator", "<=", "<"),
        ("sql-operator", "+", "-"),
        ("sql-literal", "'held'", "'heldx'"),
        ("sql-number", "24", "25"),
        ("sql-clause", "FOR UPDATE", ""),
    ],
)
def test_sql_operator(operator: str, before: str, after: str) -> None:
    made = [
        (each.operator, STATEMENT[each.start : each.end], each.text) for each in source.sql_changes(STATEMENT)
    ]
    assert (operator, before, after) in made


def test_a_condition_in_a_subquery_ends_with_it() -> None:
    statement = "WITH a AS (UPDATE t SET n = 1 WHERE k = f(a, b)) SELECT 1 FROM a"
    dropped = [each for each in source.sql_changes(statement) if each.operator == "sql-condition"]
    assert [statement[each.start : each.end] for each in dropped] == ["WHERE k = f(a, b)"]


@pytest.mark.parametrize("module", modules())
def test_every_mutant_compiles_and_differs(module: str) -> None:
    original = path_of(module).read_text("utf-8")
    for mutant in of_module(module):
        assert mutant.source != original, mutant
        compile(mutant.source, mutant.id, "exec", dont_inherit=True)


def test_every_honest_service_has_mutants_with_ids_of_their_own() -> None:
    assert {service for each in mutants().values() for service in each.services} == set(ENTRIES)
    assert not [name for name in modules() if name.startswith(("faults", "mutants"))]
    named = [each.id for name in modules() for each in of_module(name)]
    assert len(named) == len(set(named)) == len(mutants())


def test_a_mutant_is_found_by_its_id() -> None:
    some = next(each for each in mutants().values() if each.module == "dixie.app")
    found = find(some.id)
    assert found is not None
    assert found.source == some.source
    assert find("dixie.app:nowhere:condition:1") is None
    assert find("os:path:condition:1") is None
    assert file_of("dixie.app") == "stack/dixie/app.py"
    assert services_of("dixie.app") == ["dixie"]
    assert services_of("freeside.budget_ledger") == ["freeside", "worker"]


def test_a_group_is_of_modules_and_functions_that_there_are() -> None:
    places = {f"{each.module}:{each.edit.function}" for each in mutants().values()}
    places |= {place.rpartition(".")[0] for place in places} | set(modules())
    assert GROUPS.keys() <= places


@pytest.mark.parametrize(
    ("module", "function", "group"),
    [
        ("common.verifier", "Verifier._check_claims", "claims"),
        ("common.verifier", "Verifier._issuer", "token verification"),
        ("common.verifier", "Claims.effective_pools", "claims"),
        ("common.verifier", "", "claims"),
        ("freeside.calls", "", "idempotency"),
        ("common.http", "json_object", "service"),
    ],
)
def test_what_a_place_counts_for(module: str, function: str, group: str) -> None:
    assert group_of(module, function) == group


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of equivalents instead of the project's."""
    monkeypatch.setattr(catalogue, "RECORDED", tmp_path / "mutants.toml")
    mutants.cache_clear()
    yield tmp_path / "mutants.toml"
    mutants.cache_clear()


ENTRY = """
[[equivalent]]
reason = "cannot be seen from outside because ..."
{more}
[equivalent.mutants]
"common.http:ApiError.__init__:call-dropped:1" = "{change}"
"""
CHANGE = "super().__init__(code) => pass"
EXCEPTION = "common.http:ApiError.__init__:call-dropped:1"


def test_an_equivalent_has_its_reason(recorded: Path) -> None:
    recorded.write_text(ENTRY.format(more="", change=CHANGE))
    assert mutants()[EXCEPTION].equivalent == "cannot be seen from outside because ..."
    assert sum(bool(each.equivalent) for each in mutants().values()) == 1


def test_a_family_of_equivalents_has_its_reason(recorded: Path) -> None:
    """`*` stands for any text; several changes of one family stand in a list."""
    family = ENTRY.replace("ApiError.__init__:call-dropped:1", "ApiError.__init__:*").replace(
        '"{change}"', '["super()* => pass", "headers or {} => (headers and {})"]'
    )
    recorded.write_text(family.replace("{more}", ""))
    excused = {each.id for each in mutants().values() if each.equivalent}
    assert excused == {EXCEPTION, "common.http:ApiError.__init__:and-or:1"}


def test_a_family_may_be_excused_for_several_reasons(recorded: Path) -> None:
    text = ENTRY.replace("call-dropped:1", "call-*").format(more="", change=CHANGE)
    recorded.write_text(text.replace("...", "first") + text.replace("...", "second"))
    assert mutants()[EXCEPTION].equivalent.endswith("first")


def test_a_constant_is_read_where_functions_name_it() -> None:
    """Also by way of other names and other modules: a limit of bodies is read in what calls with it."""
    found = mutants()
    reads = {
        name: {(file.rpartition("/")[2], first) for file, first, _ in found[name].as_data()["reads"]}
        for name in ("common.provider::constant:1", "common.verifier::string:11", "common.http::constant:1")
    }
    lines = path_of("common.provider").read_text("utf-8").splitlines()
    (line,) = (n for n, text in enumerate(lines, 1) if "len(text) // _CHARS_PER_TOKEN" in text)
    assert reads["common.provider::constant:1"] == {("provider.py", line)}
    assert {"verifier.py", "calls.py", "app.py"} <= {file for file, _ in reads["common.verifier::string:11"]}
    assert {"http.py", "provider.py"} <= {file for file, _ in reads["common.http::constant:1"]}
    assert not found["common.http:raw_body:call-dropped:1"].as_data()["reads"]


def test_an_equivalent_in_some_services_counts_in_the_others(recorded: Path) -> None:
    recorded.write_text(ENTRY.format(more='services = ["finn", "worker", "provider"]', change=CHANGE))
    found = mutants()[EXCEPTION]
    assert (found.services, found.equivalent) == (("freeside", "dixie"), "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENTRY.format(more="", change="x => y"), "is another change now"),
        (ENTRY.format(more="", change=CHANGE).replace("ApiError", "NoError"), "no such mutant"),
        (ENTRY.format(more="", change="x => *").replace("call-dropped:1", "*"), "no such mutant"),
        (ENTRY.format(more="", change=CHANGE) * 2, "is recorded twice"),
        (ENTRY.format(more="", change=CHANGE).replace("reason", "because"), "an entry has reason"),
        (ENTRY.format(more='variant = "messages"', change=CHANGE), "an entry has reason or variant"),
    ],
)
def test_a_wrong_record_is_refused(recorded: Path, text: str, said: str) -> None:
    recorded.write_text(text)
    with pytest.raises(StackError, match=said):
        mutants()


def test_what_runs_on_a_variant_alone_is_not_an_equivalent(recorded: Path) -> None:
    entry = ENTRY.format(more="", change=CHANGE)
    recorded.write_text(
        entry.replace('reason = "cannot be seen from outside because ..."', 'variant = "other"')
    )
    found = mutants()[EXCEPTION]
    assert (found.variant, found.equivalent, found.services) == ("other", "", tuple(ENTRIES))


def test_the_recorded_equivalents_are_mutants() -> None:
    assert any(each.equivalent for each in mutants().values())
    assert {each.variant for each in mutants().values()} <= {"", *VARIANTS}
