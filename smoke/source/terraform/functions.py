"""Terraform's functions, applied to values; the result of a function that is missing here is unknown."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import ipaddress
import itertools
import json
import math
import posixpath
import re
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from .hcl import Place
from .values import (
    Encoded,
    Symbol,
    Value,
    concatenated,
    decoded,
    flat,
    is_known,
    lift,
    of_plain,
    plain,
    scalar,
    settle,
    why_unknown,
)


class Unclear(Exception):
    """Too little is known about the arguments; the message says why."""


class Wrong(Exception):
    """The call fails for every possible value of its unknowns: Terraform would refuse it."""


def call(name: str, arguments: Sequence[Value], at: Place, written: str) -> Value:
    """Return the result of a function; `written` is the call as in the file."""

    def apply(*chosen: Value) -> Value:
        try:
            if name in STRUCTURAL:
                return STRUCTURAL[name](at, *chosen)
            if name not in PLAIN:
                return Value(Symbol(written, f"the function {name}"), at)
            unknown = next((each for each in chosen if not is_known(each)), None)
            if unknown is not None:
                return Value(Symbol(written, why_unknown(unknown) or f"{name} of an unknown value"), at)
            return of_plain(PLAIN[name](*map(plain, chosen)), at)
        except Unclear as error:
            return Value(Symbol(written, str(error)), at)
        except (Wrong, ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
            return Value(Symbol(written, f"{ABSENT}value of {written}"), at)

    return lift(apply, *arguments, name=written)


def fails(value: Value) -> bool:
    """Whether an expression has no value, so that `try` and `can` skip it."""
    content = settle(value).content
    return isinstance(content, Symbol) and content.why.startswith(ABSENT)


#: Prefix of the reason if something is missing, not just unknown.
ABSENT = "there is no "


def _content(value: Value, *types: type) -> Any:
    content = settle(value).content
    if not isinstance(content, types):
        raise Unclear(why_unknown(value) or f"a value at {value.at} that is not known")
    return content


def _concat(at: Place, *lists: Value) -> Value:
    return Value(tuple(item for each in lists for item in _content(each, tuple)), at)


def _merge(at: Place, *maps: Value) -> Value:
    merged: dict[str, Value] = {}
    for each in maps:
        if settle(each).content is not None:
            merged |= _content(each, dict)
    return Value(merged, at)


def _flatten(at: Place, value: Value) -> Value:
    found: list[Value] = []
    for item in _content(value, tuple):
        inner = settle(item)
        found += _flatten(at, inner).content if isinstance(inner.content, tuple) else [item]
    return Value(tuple(found), at)


def _compact(at: Place, value: Value) -> Value:
    def apply(*items: Value) -> Value:
        return Value(tuple(each for each in items if flat(each).content not in ("", None)), at)

    return lift(apply, *_content(value, tuple), name="compact")


def _distinct(at: Place, *lists: Value) -> Value:
    found: list[Value] = []
    for each in _concat(at, *lists).content:
        if each not in found:
            found.append(each)
    return Value(tuple(found), at)


def _coalesce(at: Place, *values: Value) -> Value:
    for each in values:
        content = flat(each).content
        if isinstance(content, Symbol) and content.resource is None:
            raise Unclear(content.why)
        if content not in ("", None):
            return each
    raise Wrong("coalesce")


def _lookup(at: Place, table: Value, key: Value, *default: Value) -> Value:
    entries, name = _content(table, dict), flat(key).content
    if not isinstance(name, str):
        raise Unclear(why_unknown(key) or "a key that is not known")
    if name in entries:
        found: Value = entries[name]
        return found
    if not default:
        raise Wrong("lookup")
    return default[0]


def _element(at: Place, value: Value, index: Value) -> Value:
    items, number = _content(value, tuple), _content(index, int)
    found: Value = items[number % len(items)]
    return found


def _values(at: Place, value: Value) -> Value:
    entries = _content(value, dict)
    return Value(tuple(entries[key] for key in sorted(entries)), at)


def _zipmap(at: Place, keys: Value, values: Value) -> Value:
    names = [flat(each).content for each in _content(keys, tuple)]
    return Value(dict(zip(names, _content(values, tuple), strict=True)), at)


def _setproduct(at: Place, *sets: Value) -> Value:
    """Every tuple with one item of each."""
    read = [_content(each, tuple) for each in sets]
    if math.prod(map(len, read)) > 1024:
        raise Unclear("a setproduct of more than 1024 tuples")
    return Value(tuple(Value(one, at) for one in itertools.product(*read)), at)


def _join(at: Place, separator: Value, *lists: Value) -> Value:
    items = [item for each in lists for item in _content(each, tuple)]
    pieces: list[Value] = []
    for index, item in enumerate(items):
        pieces += [separator, item] if index else [item]
    return concatenated(pieces, at)


def _format(at: Place, pattern: Value, *arguments: Value) -> Value:
    given = iter(arguments)
    pieces = []
    for piece in re.split(r"(%%|%[-+ #0-9.]*[a-zA-Z])", _content(flat(pattern), str)):
        if piece == "%%":
            pieces.append(Value("%", at))
        elif re.fullmatch(r"%[svdq]", piece):
            pieces.append(next(given))
        elif piece.startswith("%"):
            each = next(given)
            if not is_known(each):
                raise Unclear(why_unknown(each) or "a number that is not known")
            pieces.append(Value(piece % plain(each), at))
        else:
            pieces.append(Value(piece, at))
    return concatenated(pieces, at)


def _jsondecode(at: Place, value: Value) -> Value:
    found = decoded(value)
    if found is None:
        raise Unclear(why_unknown(value) or "JSON that is not known")
    return found


def _same(at: Place, value: Value, *_: Value) -> Value:
    return value


def _tonumber(value: Any) -> Any:
    found = float(value) if value is not None else None
    return int(found) if found is not None and found.is_integer() else found


def _subtract(at: Place, first: Value, second: Value) -> Value:
    gone = _content(second, tuple)
    return Value(tuple(each for each in _content(first, tuple) if each not in gone), at)


def _contains(at: Place, value: Value, item: Value) -> Value:
    items = _content(value, tuple)
    if item in items:
        return Value(True, at)
    if not all(map(is_known, (*items, item))):
        raise Unclear("an item that is not known")
    return Value(plain(item) in [plain(each) for each in items], at)


def _one(at: Place, value: Value) -> Value:
    items = _content(value, tuple)
    if len(items) > 1:
        raise Wrong("one")
    return items[0] if items else Value(None, at)


def _replace(at: Place, value: Value, old: Value, new: Value) -> Value:
    """The text with a replacement for each match; the replacement need not be known."""
    text, wanted, put = _content(flat(value), str), _content(flat(old), str), flat(new)
    if len(wanted) > 1 and wanted.startswith("/") and wanted.endswith("/"):
        return Value(_pattern(wanted[1:-1]).sub(re.sub(r"\$(\d+)", r"\\\1", _content(put, str)), text), at)
    if not wanted:
        raise Unclear("a replacement of nothing")
    first, *others = text.split(wanted)
    return concatenated(
        [Value(first, at), *(part for other in others for part in (put, Value(other, at)))], at
    )


#: The classes of characters that RE2 has and Python has not.
_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "blank": r" \t", "cntrl": r"\x00-\x1f\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\s", "upper": "A-Z",
    "word": r"\w", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
#: What Python reads in another way than RE2, or not at all.
_OF_RE2 = re.compile(r"\\[pPzQC]|\\x\{|\(\?[a-z-]*U|\[:\^|\$(?!$|[)|])")


def _pattern(written: str) -> re.Pattern[str]:
    """A pattern of Terraform's functions (RE2); Unclear if Python cannot have the same one."""
    known = re.sub(r"\[:(\w+):\]", lambda name: _POSIX.get(name[1], name[0]), written)
    if _OF_RE2.search(known) or "[:" in known:
        raise Unclear(f"the pattern {written}")
    try:
        return re.compile(known, re.ASCII)
    except re.error:
        raise Unclear(f"the pattern {written}") from None


def _regex(pattern: str, text: str) -> Any:
    found = _pattern(pattern).search(text)
    if found is None:
        raise Wrong("regex")
    return found.groupdict() or list(found.groups()) or found[0]


def _cidrsubnet(network: str, bits: int, number: int) -> str:
    supernet = ipaddress.ip_network(network)
    size = 2 ** (supernet.max_prefixlen - supernet.prefixlen - bits)
    return str(
        ipaddress.ip_network((int(supernet.network_address) + number * size, supernet.prefixlen + bits))
    )


def _transpose(table: dict[str, list[str]]) -> dict[str, list[str]]:
    names = sorted({item for items in table.values() for item in items})
    return {name: sorted(key for key, items in table.items() if name in items) for name in names}


#: Functions on values, including symbols in them.
STRUCTURAL: dict[str, Callable[..., Value]] = {
    "can": lambda at, value: Value(not fails(value), at),
    "coalesce": _coalesce,
    "coalescelist": lambda at, *lists: next((each for each in lists if _content(each, tuple)), Value((), at)),
    "compact": _compact, "concat": _concat, "contains": _contains, "distinct": _distinct,
    "element": _element, "flatten": _flatten, "format": _format, "join": _join, "jsondecode": _jsondecode,
    "jsonencode": lambda at, value: Value(Encoded(value), at),
    "keys": lambda at, table: of_plain(sorted(_content(table, dict)), at),
    "length": lambda at, value: Value(len(_content(value, tuple, dict, str)), at),
    "lookup": _lookup, "merge": _merge, "nonsensitive": _same, "one": _one, "replace": _replace,
    "sensitive": _same, "setproduct": _setproduct, "setsubtract": _subtract, "setunion": _distinct,
    "slice": lambda at, value, start, end: Value(
        _content(value, tuple)[_content(start, int) : _content(end, int)], at
    ),
    "tolist": _same, "tomap": _same, "toset": _distinct,
    "tostring": lambda at, value: value if settle(value).content is None else concatenated([value], at),
    "try": lambda _, *values: next((each for each in values if not fails(each)), values[-1]),
    "values": _values, "zipmap": _zipmap,
}  # fmt: skip
#: Functions on plain data; all arguments must be plain.
PLAIN: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "alltrue": all,
    "anytrue": any,
    "basename": posixpath.basename,
    "base64decode": lambda text: base64.b64decode(text).decode(),
    "base64encode": lambda text: base64.b64encode(text.encode()).decode(),
    "ceil": lambda number: -int(-number // 1),
    "chomp": lambda text: text.rstrip("\r\n"),
    "chunklist": lambda items, size: [items[at : at + size] for at in range(0, len(items), size)],
    "cidrhost": lambda network, number: str(ipaddress.ip_network(network)[number]),
    "cidrsubnet": _cidrsubnet,
    "csvdecode": lambda text: list(csv.DictReader(io.StringIO(text))),
    "dirname": posixpath.dirname,
    "endswith": str.endswith,
    "floor": lambda number: int(number // 1),
    "formatlist": lambda pattern, items: [re.sub(r"%[svd]", str(scalar(item)), pattern) for item in items],
    "indent": lambda blanks, text: text.replace("\n", "\n" + " " * blanks),
    "index": list.index,
    "lower": str.lower,
    "matchkeys": lambda items, keys, wanted: [
        item for item, key in zip(items, keys, strict=True) if key in wanted
    ],
    "max": max,
    "min": min,
    "md5": lambda text: hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
    "parseint": int,
    "pow": pow,
    "range": lambda *bounds: list(range(*bounds))[:1024],
    "regex": _regex,
    "regexall": lambda pattern, text: [
        found.groupdict() or list(found.groups()) or found[0] for found in _pattern(pattern).finditer(text)
    ],
    "reverse": lambda items: list(reversed(items)),
    "setintersection": lambda first, *others: [
        item for item in first if all(item in other for other in others)
    ],
    "sha1": lambda text: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
    "sha256": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "signum": lambda number: (number > 0) - (number < 0),
    "sort": sorted,
    "split": lambda separator, text: text.split(separator),
    "startswith": str.startswith,
    "strrev": lambda text: text[::-1],
    "strcontains": lambda text, part: part in text,
    "substr": lambda text, start, size: text[start:] if size < 0 else text[start : start + size],
    "sum": sum,
    "title": str.title,
    "tobool": lambda value: {"true": True, "false": False}.get(value, value),
    "tonumber": _tonumber,
    "trim": str.strip,
    "trimprefix": str.removeprefix,
    "trimspace": str.strip,
    "trimsuffix": str.removesuffix,
    "transpose": _transpose,
    "upper": str.upper,
    "urlencode": urllib.parse.quote_plus,
    "yamldecode": yaml.safe_load,
    "yamlencode": lambda value: json.dumps(value),
}
