"""Shell scripts as syntax trees, and the commands in them."""

import fnmatch
import operator
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

#: An expression of GitHub, which is replaced before a shell sees the text.
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)
#: The parameter that represents an expression: the script does not say its value.
_PLACEHOLDER = re.compile(r"\$\{_+\}\Z")
#: Programs that run the command after their own options.
_WRAPPERS = frozenset(
    [
        "sudo", "env", "time", "timeout", "nohup", "nice", "exec", "command", "builtin", "npx", "pnpm",
        "yarn", "bunx", "poetry", "pipenv", "uv", "run", "retry", "docker", "podman", "compose", "chronic",
        "stdbuf", "xargs",
    ]
)  # fmt: skip
#: Programs that run a file of another language, whatever its mode and its own `#!` line.
INTERPRETERS = frozenset(
    ["bun", "deno", "node", "perl", "php", "python", "python3", "ruby", "ts-node", "tsx"]
)
#: Commands that only print or search their words.
SILENT = frozenset(
    [
        "echo", "printf", ":", "true", "grep", "egrep", "rg", "cat", "tee", "jq", "sed", "awk", "cd", "mkdir",
        "test", "[", "exit", "return",
    ]
)  # fmt: skip
SHELLS = frozenset({"sh", "bash", "dash", "ksh", "zsh"})
#: Programs that read a file instead of running it.
_READERS = SHELLS | INTERPRETERS | {"source", "."}


@lru_cache(maxsize=256)
def parse(text: str) -> Node:
    """Return the tree of a script. A GitHub expression becomes a parameter with an unknown value."""
    plain = _EXPRESSION.sub(lambda found: _as_parameter(found[0]), text)
    return Parser(Language(tree_sitter_bash.language())).parse(plain.encode()).root_node


def _as_parameter(expression: str) -> str:
    """A parameter with as many bytes and lines as the expression, so that places stay those of the file."""
    lines = expression.count("\n")
    return "${" + "_" * (len(expression.encode()) - 3 - lines) + "}" + "\n" * lines


def text_of(node: Node) -> str:
    """The text of a node."""
    return (node.text or b"").decode()


def line_of(node: Node) -> int:
    """The line of a node in its script, from 1."""
    return node.start_point[0] + 1


def broken(node: Node) -> Node | None:
    """The first place that is not valid shell, or None."""
    if not node.has_error:
        return None
    for child in node.children:
        if child.is_error or child.is_missing:
            return child
        if found := broken(child):
            return found
    return node


def unquoted(node: Node) -> str:
    """The text of a word without its quotes; expansions stay as they are written."""
    if node.type == "raw_string":
        return text_of(node)[1:-1]
    if node.type == "string":
        return text_of(node)[1:-1].replace('\\"', '"')
    if node.type == "concatenation":
        return "".join(unquoted(child) for child in node.children)
    return text_of(node).replace("\\\n", "")


def arguments(command: Node) -> list[Node]:
    """The words of a command, its name first, without assignments and redirections."""
    named = [child for child in command.named_children if child.type not in _NO_WORDS]
    return [child.named_children[0] if child.type == "command_name" else child for child in named]


_NO_WORDS = frozenset(
    {"variable_assignment", "file_redirect", "herestring_redirect", "heredoc_redirect", "comment"}
)


def words(command: Node) -> list[str]:
    """The words of a command as text."""
    return [unquoted(each) for each in arguments(command)]


def commands(node: Node) -> Iterator[Node]:
    """Yield every command below a node, also in scripts that a command gets (`sh -c '…'`)."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if each.type == "command":
            yield each
            inline = inline_script(words(each))
            if inline is not None:
                waiting.append(parse(inline[0]))
        waiting += reversed(each.named_children)


_VARIABLE = re.compile(r"[\"']?\$\{?(\w+)(?:\[[@*]\])?\}?[\"']?")


def run_by(text: str) -> Iterator[list[str]]:
    """Yield the words of every command of a script, with what it assigns to a variable in front of them."""
    tree = parse(text)
    assigned: dict[str, list[str]] = {}
    for each in below(tree, "variable_assignment"):
        name, value = each.child_by_field_name("name"), each.child_by_field_name("value")
        if name is not None and value is not None:
            several = value.named_children if value.type == "array" else [value]
            assigned[text_of(name)] = [word for item in several for word in unquoted(item).split()]
    for found in map(words, commands(tree)):
        variable = _VARIABLE.fullmatch(found[0]) if found else None
        yield [*assigned.get(variable[1], found[:1]), *found[1:]] if variable else found


#: Options of ssh with a value of their own.
_OF_SSH = re.compile(r"-[a-zA-Z]*[bcDEeFIiJLlmOopQRSWw]")
#: Programs that pass the word after `-c` to a shell.
_TO_A_SHELL = frozenset({"su", "runuser", "flock", "script"})


def inline_script(found: Sequence[str]) -> tuple[str, list[str]] | None:
    """The script that a command gets as a word, and the options of the shell that runs it.

    `sh -c '…'`, `docker run image bash -ec "…"`, `ssh host '…'`, `su -c '…'`.
    """
    if found and found[0] == "eval":
        return " ".join(found[1:]), []
    if found and posixpath.basename(found[0]) == "ssh":
        at = 1
        while at < len(found) and found[at].startswith("-"):
            at += 2 if _OF_SSH.fullmatch(found[at]) else 1
        return (" ".join(found[at + 1 :]), []) if at + 1 < len(found) else None
    for at, word in enumerate(found[:-1]):
        if posixpath.basename(word) in SHELLS:
            for end in range(at + 1, len(found) - 1):
                if re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", found[end]):
                    return found[end + 1], [*found[at + 1 : end + 1]]
        if word == "-c" and any(posixpath.basename(each) in _TO_A_SHELL for each in found[:at]):
            return found[at + 1], []
    return None


def runs(found: Sequence[str], wanted: str) -> bool:
    """Whether a command's words run `wanted` (`aws ecs update-service`), with any options in between.

    Wrappers such as `sudo`, and variables, may precede it. An option may have one value.
    """
    first, *rest = wanted.split()
    if found and found[0] in SILENT:
        return False
    for at, word in enumerate(found):
        if _program(word) == first and _follow(found[at + 1 :], rest):
            return True
        if (
            at == 0
            and posixpath.basename(word) not in _WRAPPERS | SHELLS | INTERPRETERS
            and not word.startswith("$")
        ):
            return False
    return False


#: Images and packages with another name than their program.
_PROGRAMS = {"aws-cli": "aws", "aws-cdk": "cdk"}


def _program(word: str) -> str:
    """The program that a word names, also as an image or a package: `amazon/aws-cli:2.17`, `cdk@2`."""
    name = re.split("[:@]", posixpath.basename(word), maxsplit=1)[0]
    return _PROGRAMS.get(name, name)


def _follow(found: Sequence[str], wanted: Sequence[str]) -> bool:
    at = 0
    for part in wanted:
        while at < len(found) and found[at] != part and found[at].startswith("-"):
            has_value = "=" not in found[at] and at + 1 < len(found) and not found[at + 1].startswith("-")
            at += 2 if has_value and found[at + 1] != part else 1
        if at == len(found) or found[at] != part:
            return False
        at += 1
    return True


def option(found: Sequence[str], *names: str) -> str:
    """The first value of a command's option, under any of its names; empty if it has none."""
    return next(option_values(found, *names), "")


def option_values(found: Sequence[str], *names: str) -> Iterator[str]:
    """Every value of an option of a command, under any of its names."""
    for at, word in enumerate(found):
        name, equals, value = word.partition("=")
        if equals and name in names:
            yield value
        elif word in names and at + 1 < len(found):
            yield found[at + 1]


def scripts_called(found: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield the paths that a command may run as a script, and whether its own `#!` line counts then."""
    if not found or found[0] in SILENT:
        return
    at = 0
    while at < len(found) and (
        posixpath.basename(found[at]) in _WRAPPERS | _READERS
        or found[at].startswith("-")
        or re.fullmatch(r"[\d.]+[smh]?|\w+=.*|errexit|pipefail|nounset", found[at], re.DOTALL)
    ):
        at += 1
    if at < len(found):
        direct = not any(posixpath.basename(word) in _READERS for word in found[:at])
        yield re.sub(r"\A(?:\./|\"?\$\{?(?:GITHUB_WORKSPACE|_+)\}?\"?/)+", "", found[at]), direct


def demands(text: str, wanted: str, script: Callable[[str], str | None]) -> bool:
    """Whether a script fails if this word is empty: an image's tag, or an argument that a script demands.

    Not if it tests the word itself; any other command may do without.
    """
    tree = parse(text)
    found = [*map(words, commands(tree))]
    tests = [text_of(node) for kind in ("test_command", "case_statement") for node in below(tree, kind)]
    tests += [" ".join(each) for each in found if each[:1] == ["test"]]
    return not any(wanted in each for each in tests) and any(_demands(each, wanted, script) for each in found)


def _demands(found: Sequence[str], wanted: str, script: Callable[[str], str | None]) -> bool:
    if {*found[:1]} & {"docker", "podman", "buildah", "crane", "skopeo"}:
        return any(word.endswith(f":{wanted}") for word in found)
    for path, _ in scripts_called(found) if wanted in found else ():
        at = next((at for at, word in enumerate(found) if word.endswith(path)), len(found))
        return f"${{{found.index(wanted) - at}:?" in (script(path) or "")
    return False


def below(node: Node, kind: str) -> Iterator[Node]:
    """Yield the nodes of a kind below a node."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if each.type == kind:
            yield each
        waiting += each.named_children


def joined(node: Node) -> list[list[list[Node]]]:
    """The parts of `[ ]` that `-o` joins, each as the conditions that `-a` joins; empty without either.

    The tree has these operators as if they were operands.
    """
    tokens = [node]
    while any(each.type in _NESTED for each in tokens):
        tokens = [part for each in tokens for part in (each.children if each.type in _NESTED else [each])]
    if not any(text_of(each) in ("-o", "-a") for each in tokens):
        return []
    parts: list[list[list[Node]]] = [[[]]]
    for each in tokens:
        if text_of(each) == "-o":
            parts.append([[]])
        elif text_of(each) == "-a":
            parts[-1].append([])
        else:
            parts[-1][-1].append(each)
    return parts


_NESTED = ("binary_expression", "unary_expression")


_LONGEST_LOOP = 20


def literal_items(written: Sequence[str | None]) -> list[str] | None:
    """The words of a `for` loop; None if they are unknown or too many."""
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


def is_range(written: Sequence[str]) -> bool:
    """Whether a `for` loop counts from 0 or 1, at least once: `{1..60}`, `$(seq 60)`."""
    return (
        len(written) == 1
        and re.fullmatch(r"\{[01]\.\.[1-9]\d*\}|\$\(seq (?:[01] )?[1-9]\d*\)", written[0]) is not None
    )


def evaluated(text: str, value: Callable[[str], str | None]) -> str | None:
    """The result of `n + 1`, `n > 0` or `n > 0 ? 1 : 0`; None for anything else or an unknown value."""
    if chosen := re.fullmatch(r"\s*\(?([^?()]*)\)?\s*\?\s*(\d+)\s*:\s*(\d+)\s*", text):
        first = evaluated(chosen[1], value)
        return None if first is None else chosen[3] if first == "0" else chosen[2]
    found = re.fullmatch(rf"{_OPERAND}([-+*]|[=!<>]=|[<>]){_OPERAND}", text)
    if not found:
        return None
    numbers = [word if word.isdigit() else value(word) for word in (found[1], found[3])]
    # a word that is not a number names a variable; one that is empty or not set counts as 0
    numbers = ["0" if each == "" or (each or "").isidentifier() else each for each in numbers]
    if any(number is None or not re.fullmatch(r"\s*[-+]?\d+\s*", number) for number in numbers):
        return None
    left, right = (int(number or 0) for number in numbers)
    return str(int(_OPERATORS[found[2]](left, right)))


_OPERAND = r"\s*\$?\{?(\w+)\}?\s*"
_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


_NUMBER = re.compile(r"\s*[-+]?\d+\s*\Z")
#: Operators that compare integers.
INTEGERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": operator.eq, "-ne": operator.ne, "-lt": operator.lt, "-le": operator.le, "-gt": operator.gt,
    "-ge": operator.ge,
}  # fmt: skip
_ARITHMETIC = {"==": "-eq", "!=": "-ne", "<": "-lt", "<=": "-le", ">": "-gt", ">=": "-ge"}


def compared(comparison: str, left: str, right: str, kind: str) -> bool | None:
    """Whether a comparison in `[`, `[[` or `((` (`kind`) holds; None for an operator that is not known.

    A word in place of a number is an error in `[ ]`, which counts as false, and 0 in `[[ ]]` and `(( ))`.
    """
    sign = _ARITHMETIC.get(comparison, comparison) if kind == "((" else comparison
    if sign in INTEGERS:
        numbers = [int(word) if _NUMBER.match(word) else None if kind == "[" else 0 for word in (left, right)]
        if numbers[0] is None or numbers[1] is None:
            return False
        return INTEGERS[sign](numbers[0], numbers[1])
    if comparison in ("=", "==", "!="):
        same = fnmatch.fnmatchcase(left, right) if kind == "[[" else left == right
        return same == (comparison != "!=")
    if comparison == "=~":
        try:
            return re.search(right, left) is not None
        except re.error:
            return None
    return None


_HEAD = re.compile(r"\$\(\s*git rev-parse (?:--verify )?(--short(?:=(\d+))?\s+)?HEAD\s*\)")
_CUT = re.compile(r"cut\s+-[cb]\s*1?-(\d+)|head\s+-c\s*(\d+)")


def printed(node: Node) -> tuple[Node | None, str] | None:
    """The word that `$(echo WORD | cut -c1-7)` prints, and how many characters of it.

    No word for the commit of `git rev-parse HEAD`, no number for all of it, "7+" for as many as Git needs;
    None for other commands.
    """
    if commit := _HEAD.fullmatch(text_of(node)):
        return None, (commit[2] or "7+") if commit[1] else ""
    (pipe, *others) = node.named_children or [node]
    parts = pipe.named_children if pipe.type == "pipeline" and not others else []
    cut = _CUT.fullmatch(text_of(parts[-1])) if len(parts) == 2 else None
    first = arguments(parts[0]) if cut and parts[0].type == "command" else []
    by_echo = bool(first) and text_of(first[0]) in ("echo", "printf")
    return (first[-1], cut[1] or cut[2]) if cut and by_echo else None


#: Syntax that dash does not support, by node type; for commands, by first word.
_NODES = {"herestring_redirect": "<<<", "array": "arrays", "process_substitution": "<(…)"}
_COMMANDS = frozenset({"mapfile", "readarray", "shopt", "pushd", "popd", "declare", "let"})
_EXPANSIONS = re.compile(r"\$\{\w+(?:\[|//?|\^|,|:\d)")


def of_bash(text: str) -> str:
    """The first part of a script that Bash supports but dash does not."""
    tree = parse(text)
    for kind, what in _NODES.items():
        if next(below(tree, kind), None) is not None:
            return what
    for command in commands(tree):
        found = words(command)
        if found[:1] and found[0] in _COMMANDS:
            return found[0]
        if found[:1] == ["set"] and "pipefail" in found:
            return "pipefail"
    if any(text_of(node).startswith("[[") for node in below(tree, "test_command")):
        return "[["
    if any(_EXPANSIONS.match(text_of(node)) for node in below(tree, "expansion")):
        return "such expansions"
    return ""


def github_file(node: Node) -> str:
    """`out` or `env` if a command writes to GitHub's file for outputs or for the environment."""
    above = node.parent
    target = text_of(above) if above is not None and above.type == "redirected_statement" else ""
    return "out" if "GITHUB_OUTPUT" in target else "env" if "GITHUB_ENV" in target else ""
