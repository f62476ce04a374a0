"""Changes of Python source: for each place in a syntax tree, what a slip of the hand could make of it."""

import ast
import copy
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from stack.mutants.source import (
    Change,
    Edit,
    Finder,
    Operators,
    is_log,
    is_prose,
    is_sql,
    name_of,
    sql_changes,
)

_FLIPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Div: ast.Mult,
}  # fmt: skip
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "fullmatch": "match"}
_NORMALISERS = frozenset(("strip", "lower", "upper", "rstrip"))
_BOUNDS = re.compile(r"(?<=[{,])\d+(?=[,}])")


def edits(source: str) -> Iterator[Edit]:
    """Yield every change of a module, in the order of the places."""
    found = Finder(source, _OPERATORS)
    found.visit(ast.parse(source))
    yield from sorted(found.edits, key=lambda edit: (edit.start, edit.end))


def _comparison(finder: Finder, node: ast.Compare) -> None:
    for number, operator in enumerate(node.ops):
        new = copy.copy(node)
        new.ops = [*node.ops[:number], _FLIPS[type(operator)](), *node.ops[number + 1 :]]
        finder.add("comparison", node, new)
    if len(node.ops) == 1 and not any(map(_is_number, (node.left, *node.comparators))):
        left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
        negated = "not " if isinstance(node.ops[0], (ast.NotEq, ast.NotIn)) else ""
        if isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
            finder.add("prefix", node, f"({negated}str({left}).startswith(str({right})))")
            finder.add("membership", node, f"({negated}str({left}) in str({right}))")
            finder.add("case-blind", node, f"({negated}str({left}).lower() == str({right}).lower())")
        elif isinstance(node.ops[0], (ast.In, ast.NotIn)):
            among = f"[str(each).lower() for each in {right}]"
            finder.add("case-blind", node, f"({negated}str({left}).lower() in {among})")


def _boolean(finder: Finder, node: ast.BoolOp) -> None:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    finder.add("and-or", node, ast.BoolOp(other, node.values))
    for number in range(len(node.values)):
        left = [*node.values[:number], *node.values[number + 1 :]]
        finder.add("condition-dropped", node, left[0] if len(left) == 1 else ast.BoolOp(node.op, left))


def _condition(finder: Finder, node: ast.If | ast.While | ast.IfExp) -> None:
    loop = isinstance(node, ast.While)
    if loop and isinstance(node.test, ast.Constant):
        return
    for value in ("False",) if loop else ("True", "False"):
        finder.add("condition", node.test, value)


def _filter(finder: Finder, node: ast.comprehension) -> None:
    for condition in node.ifs:
        finder.add("condition", condition, "True")


def _negation(finder: Finder, node: ast.UnaryOp) -> None:
    if isinstance(node.op, (ast.Not, ast.USub)) and not isinstance(node.operand, ast.Constant):
        finder.add("negation", node, node.operand)


def _arithmetic(finder: Finder, node: ast.BinOp) -> None:
    if type(node.op) in _ARITHMETIC and not any(map(_is_text, (node.left, node.right))):
        finder.add("arithmetic", node, ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right))


def _augmented(finder: Finder, node: ast.AugAssign) -> None:
    finder.add("statement-dropped", node, "pass")
    if type(node.op) in _ARITHMETIC:
        new = ast.AugAssign(node.target, _ARITHMETIC[type(node.op)](), node.value)
        finder.add("arithmetic", node, ast.unparse(new))


def _assignment(finder: Finder, node: ast.Assign) -> None:
    if finder.depth and all(isinstance(each, (ast.Attribute, ast.Subscript)) for each in node.targets):
        finder.add("statement-dropped", node, "pass")


def _statement(finder: Finder, node: ast.Expr) -> None:
    called = node.value.value if isinstance(node.value, ast.Await) else node.value
    if isinstance(called, ast.Call):
        finder.add("call-dropped", node, "pass")


def _returned(finder: Finder, node: ast.Return) -> None:
    if isinstance(node.value, (ast.Compare, ast.BoolOp)) or _is_not(node.value):
        assert node.value is not None
        finder.add("condition", node.value, "True")
        finder.add("condition", node.value, "False")
    elif isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool):
        finder.add("constant", node.value, str(not node.value.value))


def _call(finder: Finder, node: ast.Call) -> None:
    name = name_of(node.func)
    if name in _CALLS:
        new = copy.deepcopy(node.func)
        setattr(new, "id" if isinstance(new, ast.Name) else "attr", _CALLS[name])
        finder.add("call", node.func, new)
    if name in _NORMALISERS and isinstance(node.func, ast.Attribute):
        finder.add("normaliser-dropped", node, node.func.value)
    if len(node.args) == 2 and name == "compare_digest":
        offered, known = map(ast.unparse, node.args)
        finder.add("prefix", node, f"{known}.startswith({offered})")
    if len(node.args) == 2 and name == "get":
        finder.add("default", node.args[1], "None")
    if len(node.args) >= 2 and not any(isinstance(each, ast.Starred) for each in node.args[:2]):
        (one, _), (_, two) = finder.span(node.args[0]), finder.span(node.args[1])
        first, second = (finder.text(each) for each in node.args[:2])
        if first != second:
            swapped = f"{second}, {first}"
            finder.note("arguments", one, two, swapped, before=f"{first}, {second}", after=swapped)


def _constant(finder: Finder, node: ast.Constant) -> None:
    value = node.value
    if isinstance(value, bool) or value is None:
        if isinstance(value, bool):
            finder.add("constant", node, str(not value))
    elif isinstance(value, int):
        finder.add("constant", node, str(value + 1))
        finder.add("constant", node, f"({value - 1})")
    elif isinstance(value, float):
        for new in (value * 2, value / 2) if value else (1.0,):
            finder.add("constant", node, repr(new))
    elif isinstance(value, str):
        _string(finder, node, value)


def _string(finder: Finder, node: ast.Constant, value: str) -> None:
    if is_sql(value):
        for change in sql_changes(value):
            _sql(finder, node, change, value, repr(value[: change.start] + change.text + value[change.end :]))
    elif _BOUNDS.search(value):
        for found in _BOUNDS.finditer(value):
            for step in (1, -1):
                new = f"{value[: found.start()]}{int(found[0]) + step}{value[found.end() :]}"
                finder.add("bound", node, f"r{new!r}" if "\\" not in new else repr(new))
    elif not is_prose(node):
        finder.add("string", node, repr(value + "x"))


def _joined(finder: Finder, node: ast.JoinedStr) -> None:
    parts = [(part, str(part.value)) for part in node.values if isinstance(part, ast.Constant)]
    if parts and is_sql(parts[0][1]):
        for part, text in parts:
            for change in sql_changes(text):
                new = ast.Constant(text[: change.start] + change.text + text[change.end :])
                _sql(finder, node, change, text, ast.unparse(_with_part(node, part, new)))
    elif parts and not is_prose(node):
        part, text = parts[-1]
        finder.add("string", node, _with_part(node, part, ast.Constant(text + "x")))


def _with_part(node: ast.JoinedStr, part: ast.Constant, new: ast.Constant) -> ast.JoinedStr:
    return ast.JoinedStr([new if each is part else each for each in node.values])


def _sql(finder: Finder, node: ast.AST, change: Change, value: str, text: str) -> None:
    start, end = finder.span(node)
    before = value[change.start : change.end]
    around = value[max(0, change.start - 24) : change.start], value[change.end : change.end + 16]
    shown = (f"{around[0]}[{each.strip()}]{around[1]}" for each in (before, change.text))
    finder.note(change.operator, start, end, text, before=next(shown), after=next(shown))


def _dictionary(finder: Finder, node: ast.Dict) -> None:
    if len(node.keys) > 1 and all(isinstance(key, ast.Constant) for key in node.keys):
        for number in range(len(node.keys)):
            keys = [*node.keys[:number], *node.keys[number + 1 :]]
            values = [*node.values[:number], *node.values[number + 1 :]]
            finder.add("member-dropped", node, ast.unparse(ast.Dict(keys, values)))


def _handler(finder: Finder, node: ast.ExceptHandler) -> None:
    _body(finder, "exception-swallowed", node.body)


def _tried(finder: Finder, node: ast.Try) -> None:
    if node.finalbody:
        _body(finder, "finally-dropped", node.finalbody)


def _body(finder: Finder, operator: str, body: list[ast.stmt]) -> None:
    """Do nothing instead of these statements."""
    if all(isinstance(each, (ast.Pass, ast.Continue)) or is_log(each) for each in body):
        return
    (start, _), (_, end) = finder.span(body[0]), finder.span(body[-1])
    finder.note(operator, start, end, "pass", before=ast.unparse(body[0]), after="pass")


def _function(finder: Finder, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    body = [each for each in body if not isinstance(each, (ast.Global, ast.Nonlocal))]  # no trace shows these
    if not body or node.name in ("__init__", "__repr__"):
        return
    returns = ast.unparse(node.returns) if node.returns is not None else ""
    generates = any(isinstance(each, (ast.Yield, ast.YieldFrom)) for each in ast.walk(node))
    start, _ = finder.span(body[0])
    margin = "\n" + " " * body[0].col_offset
    bools = returns == "bool"
    with finder.inside(node):
        for early in (
            ("return True", "return False") if bools else ("return" if generates else "return None",)
        ):
            finder.note(
                "early-return",
                start,
                start,
                early + margin,
                before=f"def {node.name}",
                after=early,
                statement=body[0],
            )
        for first, second in pairwise(body):
            _order(finder, first, second)


def _block(finder: Finder, node: Any) -> None:
    for first, second in pairwise(node.body):
        _order(finder, first, second)


def _order(finder: Finder, first: ast.stmt, second: ast.stmt) -> None:
    """Swap two statements that act, unless the second needs what the first names."""
    if not (_acts(first) and _acts(second)):
        return
    named = {each.id for each in ast.walk(first) if isinstance(each, ast.Name) and _is_stored(each)}
    if named & {each.id for each in ast.walk(second) if isinstance(each, ast.Name)}:
        return
    (start, _), (_, end) = finder.span(first), finder.span(second)
    one, middle, two = finder.text(first), finder.text(first, second), finder.text(second)
    finder.note(
        "order",
        start,
        end,
        f"{two}{middle}{one}",
        before=f"{one}; {two}",
        after=f"{two}; {one}",
        statement=first,
    )


def _context(finder: Finder, node: ast.With | ast.AsyncWith) -> None:
    """Leave out a lock or a transaction: an item of `with` that gives nothing a name."""
    for item in node.items:
        if item.optional_vars is None:
            free = "__import__('contextlib').nullcontext()"
            finder.add("lock", item.context_expr, free)


def _acts(node: ast.stmt) -> bool:
    simple = isinstance(node, (ast.Expr, ast.Assign, ast.AugAssign)) and not is_log(node)
    return simple and any(isinstance(each, (ast.Call, ast.Await)) for each in ast.walk(node))


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float, type(None)))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    )


def _is_not(node: ast.AST | None) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


_OPERATORS: Operators = {
    ast.Compare: (_comparison,),
    ast.BoolOp: (_boolean,),
    ast.If: (_condition, _block),
    ast.While: (_condition, _block),
    ast.IfExp: (_condition,),
    ast.comprehension: (_filter,),
    ast.UnaryOp: (_negation,),
    ast.BinOp: (_arithmetic,),
    ast.AugAssign: (_augmented,),
    ast.Assign: (_assignment,),
    ast.Expr: (_statement,),
    ast.Return: (_returned,),
    ast.Call: (_call,),
    ast.Constant: (_constant,),
    ast.JoinedStr: (_joined,),
    ast.Dict: (_dictionary,),
    ast.ExceptHandler: (_handler,),
    ast.Try: (_tried, _block),
    ast.FunctionDef: (_function,),
    ast.AsyncFunctionDef: (_function,),
    ast.With: (_context, _block),
    ast.AsyncWith: (_context, _block),
}
