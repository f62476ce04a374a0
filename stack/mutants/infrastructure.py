"""Mutants of the platform's repository, Terraform and workflows, both read as lines with their indentation.

A line stands for itself and for what is indented below it. An entry is left out, a value is changed, a
reference goes to another thing of its type, a condition is turned, a resource gets `count = 0`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stack.mutants.catalogue import Record, records

RECORDED = Path(__file__).parent.parent / "mutants_infrastructure.toml"
TREE = Path(__file__).parent.parent / "source" / "tree"
PATTERNS = (
    "infrastructure/terraform/**/*.tf",
    "infrastructure/terraform/**/*.tfvars",
    ".github/workflows/*.yml",
)
_RESOURCE = re.compile(r'(?:resource|data|module)\s+"([\w-]+)"(?:\s+"([\w-]+)")?\s*\{')
_ENTRY = re.compile(r'(?:- )?"?([\w.*/-]+)"?\s*(?:=(?!=)|:(?=\s|$)|\{|"[^"]*"\s*(?:"[^"]*"\s*)?\{)')
_REFERENCE = re.compile(r"\b((?:data\.)?aws_\w+)\.(\w+)|\b(var|local)\.(\w+)")
#: An object in a list goes by the name that it gives.
_NAMED = re.compile(r'\{ name\s*=\s*"(\w+)"')
_KEY = re.compile(r'(?:- )?"?([\w./-]+)"?\s*(?:=(?!=)|:(?=\s|$)|\{)')
_HEADER = re.compile(r'[a-z]+ ".*\{')
#: What is only for people: a change of it changes nothing.
_WORDS = re.compile(r"\s*(?:#|description\b|tags\b)")
_TURNED: dict[str, str] = {"&&": "||", "||": "&&", "==": "!=", "!=": "==", "!": ""}
#: Operator, what in a line it is about, and what becomes of that.
_LITERALS: tuple[tuple[str, re.Pattern[str], Callable[[str], list[str]]], ...] = (
    ("bool", re.compile(r"\b(?:true|false)\b"), lambda text: ["false" if text == "true" else "true"]),
    (
        "number",
        re.compile(r"(?<![\w.\"@-])\d+(?![\w.\"-])"),
        lambda text: [f"{int(text) + n}" for n in (1, -1)],
    ),
    ("string", re.compile(r'(?<=")[^"$ ]+(?=")'), lambda text: [f"{text}x"]),
    ("scalar", re.compile(r"(?<=: )(?!true|false)[A-Za-z][\w./-]*$"), lambda text: [f"{text}x"]),
    ("condition", re.compile(r"&&|\|\||==|!=|(?<=\s)!(?=[a-z])"), lambda text: [_TURNED[text]]),
    ("condition", re.compile(r"\? ([^:?]+) : ([^:?\n]+)$"), lambda text: [_swapped(text)]),
)


@dataclass(frozen=True, slots=True)
class TreeMutant:
    """One change of one file; `text` is the file with it."""

    id: str
    operator: str
    file: str
    line: int
    before: str
    after: str
    text: str

    def as_data(self) -> dict[str, Any]:
        """Return it as the control API shows it: no service runs it."""
        named = {name: getattr(self, name) for name in ("id", "operator", "file", "line", "before", "after")}
        return excused({**named, "group": "infrastructure", "services": [], "lines": []})


@cache
def _excuses() -> list[Record]:
    return records(RECORDED)


def excused(mutant: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mutant of the repository or of AWS with the reason why it breaks nothing, "" when it does."""
    change = f"{mutant['before']} => {mutant['after']}"
    reason = next((each.reason for each in _excuses() if each.fits(mutant["id"], change)), "")
    return {**mutant, "equivalent": reason}


@cache
def tree_mutants() -> Mapping[str, TreeMutant]:
    """Return every mutant of the repository by its id, `file:path:operator:n`.

    A path is the block's address and the keys in it: `aws_ecs_service.api.network_configuration.subnets`.
    """
    texts = {path.relative_to(TREE).as_posix(): path.read_text("utf-8") for path in _files()}
    known = _known("\n".join(texts.values()))
    return {each.id: each for file, text in texts.items() for each in of_file(file, text, known)}


def of_file(file: str, text: str, known: Mapping[str, list[str]]) -> Iterator[TreeMutant]:
    """Yield the mutants of one file; `known` are the names of each type that a reference can go to."""
    lines = text.splitlines(keepends=True)
    counts: Counter[tuple[str, str]] = Counter()
    block, above = "", list[tuple[int, str]]()
    for number, line in enumerate(lines):
        block = _block(line, file, block)
        path = _path(line, above)
        if not line.strip() or _WORDS.match(line):
            continue
        for operator, new, replaced in _changes(lines, number, known):
            changed = "".join(new)
            inner = path[1:] if path and block.endswith(f".{path[0]}") else path
            place = ".".join([block, *inner])
            counts[place, operator] += 1
            name = f"{file}:{place}:{operator}:{counts[place, operator]}"
            yield TreeMutant(name, operator, file, number + 1, line.strip(), replaced, changed)


def _changes(
    lines: list[str], number: int, known: Mapping[str, list[str]]
) -> Iterator[tuple[str, list[str], str]]:
    """Yield (operator, all lines with the change, what the line became) for one line."""
    line = lines[number]
    before, after = lines[:number], lines[number + 1 :]
    if _ENTRY.match(line.strip()) or line.lstrip().startswith(("- ", "{ ", '"')):
        operator = "resource-dropped" if _RESOURCE.match(line) else "entry-dropped"
        yield operator, [*before, *lines[_end(lines, number) :]], "(nothing)"
    if line.startswith("resource "):
        yield "count-zero", [*before, line, "  count = 0\n", *after], "count = 0"
    for operator, pattern, values in () if _HEADER.match(line) else _LITERALS:
        for found in pattern.finditer(line.rstrip("\n")):
            for value in values(found[0]):
                new = line[: found.start()] + value + line[found.end() :]
                yield f"{operator}-changed", [*before, new, *after], new.strip()
    for found in _REFERENCE.finditer(line):
        kind, name = found[1] or found[3], found[2] or found[4]
        others = [each for each in known.get(kind, ()) if each != name]
        if others:
            new = f"{line[: found.start()]}{kind}.{others[0]}{line[found.end() :]}"
            yield "reference-swapped", [*before, new, *after], new.strip()


def _end(lines: list[str], start: int) -> int:
    """Return the number of the line after an entry, what is indented below it and its closing bracket."""
    depth = _indentation(lines[start])
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or _indentation(lines[end]) > depth):
        end += 1
    opened = lines[start].rstrip().endswith(("{", "[", "(")) or lines[start].rstrip().endswith("<<EOT")
    return end + 1 if opened and end < len(lines) and lines[end].strip()[:1] in "}])" else end


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _block(line: str, file: str, block: str) -> str:
    """Return the address of the block that a line is in: a resource, a job of a workflow, a top-level key."""
    found = _RESOURCE.match(line)
    if found is not None:
        return ".".join(filter(None, found.groups()))
    if file.endswith(".yml") and (job := re.match(r"  ([\w-]+):", line)):
        return f"{block.partition('.')[0]}.{job[1]}"
    top = re.match(r'([\w-]+)(?: "(\w+)")?', line)
    return ".".join(filter(None, top.groups())) if top is not None else block


def _path(line: str, above: list[tuple[int, str]]) -> list[str]:
    """Return the keys that lead to a line within its block; `above` are those of the lines before."""
    depth = _indentation(line)
    while above and line.strip() and above[-1][0] >= depth:
        above.pop()
    found = _NAMED.match(line.strip()) or _KEY.match(line.strip())
    if found is not None and depth > 0:
        above.append((depth, found[1]))
    return [key for _, key in above]


def _known(text: str) -> dict[str, list[str]]:
    """Return the names of each type of resource, of the variables and of the locals."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for kind, each, name in re.findall(r'^(resource|data) "(\w+)" "(\w+)"', text, re.MULTILINE):
        found[each if kind == "resource" else f"data.{each}"].append(name)
    found["var"] = re.findall(r'^variable "(\w+)"', text, re.MULTILINE)
    found["local"] = list(dict.fromkeys(re.findall(r"\blocal\.(\w+)", text)))
    return found


def _swapped(text: str) -> str:
    one, _, two = text.removeprefix("? ").partition(" : ")
    return f"? {two} : {one}"


def _files() -> list[Path]:
    return sorted({path for pattern in PATTERNS for path in TREE.glob(pattern) if path.is_file()})
