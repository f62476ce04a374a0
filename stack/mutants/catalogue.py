"""Every mutant of the honest services: its id, where it is, which services run it, which group it counts for.

`mutants.toml` beside this package records those that are equivalent to the original, each with its reason.
The same is done to the platform's repository, Terraform and workflows, both read as lines with their
indentation; `mutants_infrastructure.toml` records the equivalent ones.
"""

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stack.host import StackError
from stack.mutants.operators import edits
from stack.mutants.source import Edit, Reads, applied

STACK = Path(__file__).parent.parent
RECORDED = STACK / "mutants.toml"
#: Where each service's process begins.
ENTRIES = {
    "freeside": "freeside.app", "worker": "freeside.worker", "finn": "finn.app", "dixie": "dixie.app",
    "provider": "common.provider",
}  # fmt: skip
#: What of Freeside's calls reads a request or asks Finn.
_ASKED = (
    *("Ask", "read_ask", "require_pool", "FinnClient", "usage_in", "_prompt", "_messages", "_alias"),
    *("_key", "_body", "_lines", "_fault", "_object", "_upstream"),
)
#: What of Freeside's app shows or reserves money.
_MONEY = ("Budgets", "Reservations", "community_view", "gateway_view", "_price", "_id")
#: What of the verifier reads claims.
_CLAIMS = (
    *("", "Claims", "Verifier._check_claims", "audience_includes", "well_formed", "_word", "_uuid4"),
    *("_moment", "_pools", "_hash"),
)
#: What mutants count for, by module or by function; the longest name decides, without one it is `service`.
GROUPS = {
    "common.verifier": "token verification",
    **{f"common.verifier:{name}": "claims" for name in _CLAIMS},
    "common.auth": "token verification",
    "common.keys": "keys",
    "freeside.budget_ledger": "ledger",
    "common.provider": "ledger",
    **{f"common.provider:{name}": "service" for name in ("Provider", "_stream", "create")},
    "freeside.calls": "idempotency",
    "freeside.app": "invoke",
    "freeside.app:Health": "service",
    "freeside.app:create": "service",
    **{f"freeside.app:{name}": "ledger" for name in _MONEY},
    **{f"freeside.calls:{name}": "invoke" for name in _ASKED},
    "finn.app": "invoke",
    "finn.app:Health": "service",
    "finn.app:_check": "service",
    "finn.app:create": "service",
    "freeside.streams": "streams",
    "freeside.worker": "intake",
    "common.context:Outbox": "intake",
    "common.context:post_event": "intake",
    "dixie.app": "reputation",
    "dixie.app:Health": "service",
    "dixie.app:create": "service",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module. `equivalent` is why no answer shows the difference, "" when one can.

    With a `variant` it only runs on that clean variant of the platform.
    """

    id: str
    module: str
    path: Path
    edit: Edit
    services: tuple[str, ...]
    equivalent: str = ""
    variant: str = ""

    @property
    def source(self) -> str:
        """The module's source with the change."""
        return applied(self.path.read_text("utf-8"), self.edit)

    def as_data(self) -> dict[str, Any]:
        """Return it as the control API shows it."""
        edit = self.edit
        return {
            "id": self.id,
            "group": group_of(self.module, edit.function),
            "module": self.module,
            "operator": edit.operator,
            "file": file_of(self.module),
            "line": edit.line,
            "lines": [edit.first, edit.last] if edit.first else [],
            "reads": [place for name in edit.names for place in _reads(self.module, name)],
            "before": edit.before,
            "after": edit.after,
            "services": list(self.services),
            "equivalent": self.equivalent,
            "variant": self.variant,
        }


@dataclass(frozen=True, slots=True)
class Record:
    """Why mutants are equivalent to the original; in which services, all when there are none.

    With a ``variant`` they are not: they only run on that clean variant of the platform.
    `*` stands for any text in the id and in ``changes``, `before => after`: an id with it is of a family.
    """

    id: str
    changes: tuple[str, ...]
    reason: str
    services: tuple[str, ...]
    variant: str = ""

    def fits(self, mutant_id: str, change: str) -> bool:
        """Return whether it is of this mutant. Raises StackError where the id is now another change."""
        if not _pattern(self.id).fullmatch(mutant_id):
            return False
        fits = any(_pattern(each).fullmatch(change) for each in self.changes)
        if not fits and "*" not in self.id:
            raise StackError(
                f"{RECORDED.name}: {mutant_id} is another change now", change, "look at it again"
            )
        return fits


@cache
def mutants() -> Mapping[str, Mutant]:
    """Return every mutant by id. Raises StackError for a record in `mutants.toml` that fits none."""
    recorded, used = records(RECORDED), set[Record]()
    found = {each.id: each for module in modules() for each in of_module(module, recorded, used)}
    lost = sorted(each.id for each in {*recorded} - used)
    if lost:
        raise StackError(
            f"{RECORDED.name}: no such mutant: {', '.join(lost[:3])}",
            "",
            "remove its entry, or correct the id",
        )
    return found


def of_module(
    module: str, recorded: Iterable[Record] = (), used: set[Record] | None = None
) -> Iterator[Mutant]:
    """Yield the mutants of one module, such as `common.verifier`; `used` gets the records that fit.

    An id is `module:function:operator:n`, with n counted within the function: it stays when other functions
    change. A record tells the change as well, so that it cannot excuse another one.
    """
    path = path_of(module)
    records = [each for each in recorded if _pattern(each.id.partition(":")[0]).fullmatch(module)]
    counts: Counter[tuple[str, str]] = Counter()
    for edit in edits(path.read_text("utf-8")):
        counts[edit.function, edit.operator] += 1
        name = f"{module}:{edit.function}:{edit.operator}:{counts[edit.function, edit.operator]}"
        entries = [each for each in records if each.fits(name, f"{edit.before} => {edit.after}")]
        if used is not None:
            used.update(entries)
        excuses = [each for each in entries if not each.variant]
        excused = {service for each in excuses for service in each.services or services_of(module)}
        left = tuple(each for each in services_of(module) if each not in excused)
        variant = next((each.variant for each in entries if each.variant), "")
        yield Mutant(name, module, path, edit, left, "" if left else excuses[0].reason, variant)


def group_of(module: str, function: str) -> str:
    """Return the group of what is in a function, or outside of any, where the function is ""."""
    parts = function.split(".") if function else []
    names = [f"{module}:{'.'.join(parts[:n])}" for n in range(len(parts), 0, -1)] or [f"{module}:"]
    return next((GROUPS[name] for name in (*names, module) if name in GROUPS), "service")


def find(mutant_id: str) -> Mutant | None:
    """Return a mutant by its id without looking at other modules, None when there is no such one."""
    module = mutant_id.partition(":")[0]
    if module not in modules():
        return None
    return next((each for each in of_module(module) if each.id == mutant_id), None)


@cache
def modules() -> tuple[str, ...]:
    """Return the modules of the honest services: what their processes import of `stack`."""
    return tuple(sorted({module for entry in ENTRIES.values() for module in _imported(entry)}))


@cache
def services_of(module: str) -> list[str]:
    """Return the services that import a module in their process."""
    return [service for service, entry in ENTRIES.items() if module in _imported(entry)]


@cache
def _reads(module: str, name: str) -> list[tuple[str, int, int]]:
    """Return where functions read what an import gives a name: file, first and last line.

    Names are taken for the same in all modules, those with an underscore within their own.
    """
    found: set[tuple[str, int, int]] = set()
    seen: set[tuple[str, str]] = set()
    left = {(module, name)}
    while left:
        here, name = pair = left.pop()
        seen.add(pair)
        for reader in (here,) if name.startswith("_") else modules():
            reads = _module_reads(reader)
            found |= {(file_of(reader), *lines) for lines in reads.later.get(name, ())}
            left |= {(reader, other) for other in reads.at_import.get(name, ())} - seen
    return sorted(found)


@cache
def _module_reads(module: str) -> Reads:
    return Reads(path_of(module).read_text("utf-8"))


@cache
def _imported(module: str) -> frozenset[str]:
    """Return a module and everything of the honest services that it imports, directly or not."""
    found: set[str] = set()
    left = {module}
    while left:
        name = left.pop()
        found.add(name)
        for node in ast.walk(ast.parse(path_of(name).read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stack"):
                base = (node.module or "").removeprefix("stack").lstrip(".")
                names = {base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)}
                left |= {each for each in names if each and path_of(each).is_file()} - found
    return frozenset(found)


def file_of(module: str) -> str:
    """Return a module's file as a person names it."""
    return f"stack/{path_of(module).relative_to(STACK).as_posix()}"


def path_of(module: str) -> Path:
    """Return a module's file."""
    return STACK.joinpath(*module.split(".")).with_suffix(".py")


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*"))


def records(path: Path) -> list[Record]:
    """Return the records of a file. Raises StackError for a malformed entry."""
    entries = tomllib.loads(path.read_text("utf-8")).get("equivalent", []) if path.is_file() else []
    found: list[Record] = []
    for entry in entries:
        why = entry.keys() & {"reason", "variant"}
        if len(why) != 1 or not {"mutants"} <= entry.keys() - why <= {"mutants", "services"}:
            raise StackError(
                f"{path.name}: an entry has reason or variant, mutants and perhaps services", str(entry)
            )
        for mutant_id, change in entry["mutants"].items():
            if "*" not in mutant_id and any(each.id == mutant_id for each in found):
                raise StackError(f"{path.name}: {mutant_id} is recorded twice")
            changes = (change,) if isinstance(change, str) else tuple(change)
            services, variant = tuple(entry.get("services", ())), entry.get("variant", "")
            found.append(Record(mutant_id, changes, entry.get("reason", ""), services, variant))
    return found


RECORDED_OF_TREE = Path(__file__).parent.parent / "mutants_infrastructure.toml"
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
#: Operator, the text in a line that it changes, and what it puts there.
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
    return records(RECORDED_OF_TREE)


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
