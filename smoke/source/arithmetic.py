"""Values in a shell: how two of them compare, what a calculation gives, which words a loop goes through."""

import fnmatch
import re
from collections.abc import Callable, Sequence

_NUMBER = re.compile(r"\s*[-+]?\d+\s*\Z")
_INTEGERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda left, right: left == right,
    "-ne": lambda left, right: left != right,
    "-lt": lambda left, right: left < right,
    "-le": lambda left, right: left <= right,
    "-gt": lambda left, right: left > right,
    "-ge": lambda left, right: left >= right,
}
_ARITHMETIC = {"==": "-eq", "!=": "-ne", "<": "-lt", "<=": "-le", ">": "-gt", ">=": "-ge"}
_LONGEST_LOOP = 20


def compared(operator: str, left: str, right: str, kind: str) -> bool | None:
    """Whether a comparison in `[`, `[[` or `((` (`kind`) holds; None for an operator that is not known.

    A word in place of a number is an error in `[ ]`, which counts as false, and 0 in `[[ ]]` and `(( ))`.
    """
    sign = _ARITHMETIC.get(operator, operator) if kind == "((" else operator
    if sign in _INTEGERS:
        numbers = [int(word) if _NUMBER.match(word) else None if kind == "[" else 0 for word in (left, right)]
        if numbers[0] is None or numbers[1] is None:
            return False
        return _INTEGERS[sign](numbers[0], numbers[1])
    if operator in ("=", "==", "!="):
        same = fnmatch.fnmatchcase(left, right) if kind == "[[" else left == right
        return same == (operator != "!=")
    if operator == "=~":
        try:
            return re.search(right, left) is not None
        except re.error:
            return None
    return None


def evaluated(text: str, value: Callable[[str], str | None]) -> str | None:
    """The result of a sum such as `n + 1`, None for anything else or an unknown value."""
    found = re.fullmatch(r"\s*\$?(\w+)\s*([-+*])\s*\$?(\w+)\s*", text)
    if not found:
        return None
    numbers = [word if word.isdigit() else value(word) for word in (found[1], found[3])]
    if any(number is None or not _NUMBER.match(number) for number in numbers):
        return None
    left, right = (int(number or 0) for number in numbers)
    return str({"+": left + right, "-": left - right, "*": left * right}[found[2]])


def literal_items(written: Sequence[str | None]) -> list[str] | None:
    """The words that a `for` goes through; None when they are not known or too many."""
    items: list[str] = []
    for word in written:
        if word is None:
            return None
        span = re.fullmatch(r"\{(\d+)\.\.(\d+)\}|\$\(seq (?:(\d+) )?(\d+)\)", word)
        if span:
            first, last = int(span[1] or span[3] or 1), int(span[2] or span[4])
            items += [str(number) for number in range(first, min(last, first + _LONGEST_LOOP) + 1)]
        elif "$" in word:
            return None
        else:
            items.append(word)
    return items if len(items) <= _LONGEST_LOOP else None
