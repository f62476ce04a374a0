"""What the source of a suite says about checks that cannot fail or that another one replaced."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

#: What an assertion on it always finds true: ``assert (1 == 2, "no")`` compares nothing.
_ALWAYS_TRUE = (ast.Lambda, ast.GeneratorExp, ast.JoinedStr)
#: Where there is none of these, a module need not be parsed, which would take longer than collecting it.
_SUSPECT = re.compile(r"\bassert\s*(?:\(|lambda\b|[rbfRBF]{0,2}['\"])")
_DEFINED = re.compile(r"\b(?:def|class)\s+(\w+)")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def source_problems(source: bytes, names: tuple[str, ...] = ("test",)) -> list[str]:
    """Return what is wrong in a module, each with its line: hollow assertions, a test that is defined twice.

    ``names`` are the beginnings of a test's name. A module that cannot be parsed has its say elsewhere.
    """
    text = source.decode(errors="replace")
    if not _SUSPECT.search(text) and not _repeated(text, names):
        return []
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    return [*_hollow(tree), *_doubled(tree.body, names)]


def _repeated(text: str, names: tuple[str, ...]) -> bool:
    """Tell whether the name of a test stands in a text more than once."""
    tests = {name for name in _DEFINED.findall(text) if name.lower().startswith(names)}
    words = Counter(re.findall(r"\w+", text)) if tests else Counter[str]()
    return any(words[name] > 1 for name in tests)


def _hollow(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and _is_always_true(node.test):
            yield f"line {node.lineno}: this assertion is always true: {_shortened(node.test)}"


def _is_always_true(test: ast.expr) -> bool:
    if isinstance(test, ast.Tuple):
        return bool(test.elts)
    return isinstance(test, _ALWAYS_TRUE) or (isinstance(test, ast.Constant) and isinstance(test.value, str))


def _doubled(body: list[ast.stmt], names: tuple[str, ...]) -> Iterator[str]:
    """Find a test whose name is bound again in the same block; what branches define is left alone."""
    found: dict[str, int] = {}
    for node in body:
        for name in _bound(node):
            if name in found:
                yield f"line {node.lineno}: {name} replaces that of line {found[name]}, which is never run"
        if isinstance(node, _DEFINITIONS) and node.name.lower().startswith(names):
            found[node.name] = node.lineno
        if isinstance(node, ast.ClassDef):
            yield from _doubled(node.body, names)


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, _DEFINITIONS):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Delete):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _shortened(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:60]}…"
