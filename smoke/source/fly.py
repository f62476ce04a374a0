"""Traces of Fly.io in text (hosts, tools, commands, credentials, actions), and the scanner's control."""

import codecs
import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pytest_readiness import SetupError

from .checkout import SYMLINK, Checkout, Finding

#: A word begins here: after no word character, or after the last one of an escape (%2f, or \n in JSON).
_START = rb"(?:(?<![\w%\\-])|(?<=%2f)|(?<=\\[nrt])|(?<=\\)(?![nrt]))"
#: The name ends here, and no further label follows: fly.io.example.org is another host.
_END = rb"(?!\w|\.\w)"
_NO_LETTER_BEFORE = rb"(?:(?<![a-z])|(?<=%2f)|(?<=\\[nrt]))"
#: What is looked for, in lower case.
PATTERNS: dict[str, re.Pattern[bytes]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "fly.io": rb"fly\.io" + _END,
        "fly.dev": rb"fly\.dev" + _END,
        "flyctl": _NO_LETTER_BEFORE + rb"flyctl(?![a-z])",
        "fly.toml": _START + rb"fly(?:\.[\w-]+){0,3}\.toml" + _END,
        "fly deploy": rb"(?<!on the )" + _START + rb"fly(?:[ \t]+|[\"'],[ \t]*[\"'])deploy(?![\w-])",
        "Fly.io variable": _NO_LETTER_BEFORE
        + rb"fly_(?:api_token|access_token|app_name|region|machine_id|alloc_id)(?![a-z0-9_])",
        "superfly action": _START + rb"superfly/[\w-]+",
    }.items()
}
#: What may stand before a domain: nothing of a word, or the labels of a host, which may follow a hyphen.
_DOMAIN_ALONE = re.compile(_START)
_LABELS = re.compile(rb"(?:" + _START + rb"|(?<=-))(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+\Z")
_LONGEST_HOST = 253
HOSTS = frozenset({"fly.io", "fly.dev"})
#: Hosts of Fly.io that a program talks to; every application's own is under fly.dev.
APIS = frozenset({"api.fly.io", "registry.fly.io"})
#: Documents in which a name may be mentioned; a script under docs/ is no document.
PROSE_SUFFIXES = (".md", ".mdx", ".rst", ".txt", ".adoc")
_BINARY_PROBE = 8192


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """One trace: `host` is the whole host name when it is one, lower case, and empty otherwise."""

    path: str
    line: int
    kind: str
    text: str
    host: str = ""

    @property
    def is_address(self) -> bool:
        """Whether it points to an application or an API on Fly.io, rather than name the product."""
        return self.host.endswith(".fly.dev") or self.host in APIS

    def finding(self) -> Finding:
        """The same in the words for a person; a reference in a file's name has no line."""
        return Finding(
            self.path, self.line, f"{self.kind}: {self.text}" if self.line else f"{self.kind} by its name"
        )


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the plan allows: a host in one file, or (`prose`) mentions in a folder's documents."""

    path: str
    reason: str
    host: str = ""
    prose: bool = False

    def covers(self, reference: Reference) -> bool:
        """Whether it allows a reference: exact host and exact path; in prose, whatever is not an address."""
        if self.prose:
            document = reference.path.lower().endswith(PROSE_SUFFIXES)
            return document and reference.path.startswith(self.path) and not reference.is_address
        return reference.path == self.path and reference.host == self.host

    def __str__(self) -> str:
        return f"{self.path}: {self.host or 'mentions in prose'} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found: references that nothing allows, those allowed, allow entries that allowed nothing.

    `files` and `binary` count the tracked files that were read and those that are no text.
    """

    live: tuple[Reference, ...]
    allowed: tuple[Reference, ...]
    stale: tuple[Allowed, ...]
    files: int
    binary: int


def allow_list(entries: Iterable[Mapping[str, Any]]) -> tuple[Allowed, ...]:
    """Read the plan's allow-list. SetupError for an entry that is not exact or gives no reason."""
    found = []
    for number, entry in enumerate(entries, 1):
        unknown = set(entry) - {"path", "host", "prose", "reason"}
        prose, path = entry.get("prose") is True, str(entry.get("path", ""))
        exact = path and not any(sign in path for sign in "*?[") and prose == path.endswith("/")
        if unknown or not exact or prose == bool(entry.get("host")) or not entry.get("reason"):
            raise SetupError(
                f"[[facts.flyio.allow]] entry {number} in the plan is not exact: {dict(entry)}\n"
                "allowed: path (a file), host, reason; or path (a folder and /), prose = true, reason"
            )
        found.append(Allowed(path, str(entry["reason"]), str(entry.get("host", "")).lower(), prose))
    return tuple(found)


def references(text: bytes, path: str) -> Iterator[Reference]:
    """Yield the traces in a text, in no particular order."""
    lowered = text.lower()
    if b"fly" not in lowered:
        return
    for kind, pattern in PATTERNS.items():
        for match in pattern.finditer(lowered):
            start = _host_start(lowered, match.start()) if kind in HOSTS else match.start()
            if start is not None:
                line = text.count(b"\n", 0, start) + 1
                found = text[start : match.end()].decode(errors="replace")
                yield Reference(path, line, kind, found, found.lower() if kind in HOSTS else "")


def _host_start(text: bytes, domain: int) -> int | None:
    """Where the host that ends in the domain at this place begins; None inside of another word.

    Searched backwards from the domain: forwards, each dotted name of a long line would be a candidate.
    """
    before = text[max(0, domain - _LONGEST_HOST) : domain]
    labels = _LABELS.search(before)
    if labels is not None:
        return domain - len(labels.group())
    return domain if _DOMAIN_ALONE.match(text, domain) else None


def points_to_fly(text: str) -> bool:
    """Whether there is any trace in a text."""
    return next(references(text.encode(), ""), None) is not None


def as_text(content: bytes) -> bytes | None:
    """Return a file's text in an encoding whose ASCII is plain, None for a binary file."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if content.startswith(mark):
            return content.decode(encoding, errors="replace").encode()
    return None if b"\0" in content[:_BINARY_PROBE] else content


def scan(checkout: Checkout, allow_list: tuple[Allowed, ...]) -> Scan:
    """Look through every tracked text file, its name and its content, and apply the allow-list."""
    found: list[Reference] = []
    files = binary = 0
    for file in checkout.tracked():
        name = file.path.encode(errors="surrogateescape")
        found += [Reference(ref.path, 0, ref.kind, ref.text, ref.host) for ref in references(name, file.path)]
        content = checkout.content(file)
        if content is None:
            continue
        text = as_text(content)
        if text is None:
            binary += 1
        else:
            files += 1
            found += references(text, file.path)
    allowed = [ref for ref in found if any(entry.covers(ref) for entry in allow_list)]
    return Scan(
        live=tuple(sorted(set(found) - set(allowed))),
        allowed=tuple(sorted(allowed)),
        stale=tuple(entry for entry in allow_list if not any(entry.covers(ref) for ref in found)),
        files=files,
        binary=binary,
    )


#: One reference of each kind; each is written into files of each kind.
PLANTS = (
    "https://planted-{number}.fly.dev/health",
    "flyctl deploy --remote-only # {number}",
    "FLY_API_TOKEN={number}",
    "superfly/flyctl-actions/setup-flyctl@{number}",
)
#: What must not be taken for one.
DECOYS = "butterfly.io on-the-fly deployment BUTTERFLY_API_TOKEN dragonfly.toml fly.io.example.org"
KINDS = (
    "Dockerfile*", "*.yml", "*.yaml", "*.tf", "*.tfvars", "*.sh", "*.ts", "*.js", "*.py", "*.json", "*.toml",
    ".*",
)  # fmt: skip
PER_KIND = 5


def fields(checkout: Checkout) -> list[str]:
    """Return some files of each kind that a reference could be in."""
    regular = [file.path for file in checkout.tracked() if file.mode != SYMLINK]
    chosen: dict[str, None] = {}
    for kind in KINDS:
        alike = [path for path in regular if fnmatch.fnmatchcase(PurePosixPath(path).name, kind)]
        chosen.update(dict.fromkeys(alike[:PER_KIND]))
    return [path for path in chosen if (checkout.root / path).is_file()]


def plant(checkout: Checkout) -> Iterator[tuple[str, int]]:
    """Append all plants and decoys to those files, and yield each file with how many plants it got.

    `checkout` must be a scratch copy.
    """
    for number, path in enumerate(fields(checkout)):
        lines = [plant.format(number=number) for plant in PLANTS]
        with (checkout.root / path).open("ab") as file:
            file.write("\n".join(["", *lines, DECOYS, ""]).encode())
        yield path, len(lines)
