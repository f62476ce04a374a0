"""Traces of Fly.io in text: hosts, tools, commands, credentials, actions. And the scanner's control."""

import base64
import codecs
import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from pytest_readiness import SetupError

from smoke.source.checkout import SYMLINK, Checkout, Comments, Finding

#: Start of a word: after no word character, or after the last one of an escape (%2f, or \n in JSON).
_START = rb"(?:(?<![\w%\\-])|(?<=%2f)|(?<=\\[nrt])|(?<=\\)(?![nrt]))"
#: End of the name, without a further label: fly.io.example.org is another host.
_END = rb"(?!\w|\.\w)"
_NO_LETTER_BEFORE = rb"(?:(?<![a-z])|(?<=%2f)|(?<=\\[nrt]))"
#: The traces, in lower case.
PATTERNS: dict[str, re.Pattern[bytes]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "fly.io": rb"fly\.io" + _END,
        "fly.dev": rb"fly\.dev" + _END,
        "flyctl": _NO_LETTER_BEFORE + rb"flyctl(?![a-z])",
        "fly.toml": _START + rb"fly(?:\.[\w-]+){0,3}\.toml" + _END,
        "fly deploy": rb"(?<!on the )" + _START + rb"fly(?:[ \t]+|[\"'],[ \t]*[\"'])deploy(?![\w-])",
        "fly command": rb"(?<![\w./-])fly[ \t]+(?:apps|certs|ips|launch|logs|machines?|mpg|orgs|postgres"
        rb"|proxy|releases|scale|secrets|sftp|ssh|status|tokens|volumes?|wireguard)(?![\w-])",
        "Fly.io address": rb"(?<![\w.-])(?:[a-z0-9_-]+\.)+(?:flycast|flydns\.net)"
        + _END
        + rb"|(?<![\w-])api\.machines\.dev"
        + _END
        + rb"|(?<![\w-])_fly-ownership(?![\w-])|"
        + _START
        + rb"(?:fly-global-services|fly-metrics\.net|fly\.storage\.tigris\.dev|fly-[\w-]+\.upstash\.io)"
        + _END,
        # of the private network: addresses, and names that no other has
        "Fly.io network": rb"(?<![0-9a-f:]:)"
        + _START
        + rb"fdaa:(?:[0-9a-f]{1,2}:[0-9a-f]{1,4}:(?:a7b|0:1):|:3(?![\w:]))",
        "Fly.io name": rb"\.nearest\.of\.[\w.-]+\.internal"
        + _END
        + rb"|(?<!\.)"
        + _START
        + rb"_(?:api|apps|instances|peer)\.internal"
        + _END,
        # joined by a program: "x.fly" + ".dev", join(".", ["x", "fly", "dev"]) and the like
        "Fly.io host in parts": rb"(?<=[\"'`./}])fly"
        rb"(?:[\"'`][ \t]*\+[ \t]*[\"'`]\.|\.[\"'`][ \t]*\+[ \t]*[\"'`])(?:dev|io)(?!\w)"
        rb"|(?:\bjoin\([ \t]*[\"']\.[\"'][ \t]*,|[\"']\.[\"']\.join\(|\bformat\([ \t]*[\"'][^\"'\n]*%s\.%s)"
        rb"[^\n]*[\"'.]fly[\"'],[ \t]*[\"'](?:dev|io)[\"']"
        rb"|[\"'.]fly[\"'],[ \t]*[\"'](?:dev|io)[\"'][ \t]*\]\.join\([ \t]*[\"']\.[\"']",
        "Fly.io provider": rb"provider[ \t]+\"fly\"|(?:resource|data)[ \t]+\"fly_\w+\""
        rb"|(?<![\w-])fly-apps/[\w-]+",
        "Fly.io variable": _NO_LETTER_BEFORE
        + rb"fly_(?:(?:api|access)_token|app_name|region|machine_(?:id|version)|alloc_id|image_ref|consul_url"
        + rb"|process_group|(?:public|private)_ip|vm_memory_mb)(?![a-z0-9_])",
        "Fly.io header": rb"(?<![\w-])fly-(?:client-ip|forwarded-(?:port|proto|ssl)|region|replay(?:-src)?"
        rb"|request-id|prefer-region|force-instance-id)(?![\w-])",
        "Fly.io package": rb"(?<![\w-])@?flydotio/[\w-]+",
        "superfly action": _START + rb"superfly/[\w-]+",
        "Fly.io image": _START + rb"flyio/[\w-]+",
        "Fly.io token": rb"(?<![a-z0-9_])(?:flyv1 +)?(?:fo1_|fm[12][ar]?_)[\w+/=-]{20,}",
    }.items()
}
#: Texts that must be present before a pattern is searched, which takes a hundred times as long.
_HINTS: dict[str, bytes] = {
    "flyctl": b"flyctl", "fly.toml": b".toml", "fly deploy": b"deploy", "Fly.io variable": b"fly_",
    "Fly.io header": b"fly-", "Fly.io package": b"flydotio", "superfly action": b"superfly/",
    "Fly.io image": b"flyio/", "Fly.io network": b"fdaa:", "Fly.io name": b".internal",
}  # fmt: skip
#: A text with any trace contains one of these.
_ANY = (b"fly", b"fo1_", b"fm1", b"fm2", b"machines.dev", b"fdaa:", b".internal")
#: Before a domain: no word character, or the labels of a host, which may follow a hyphen.
_DOMAIN_ALONE = re.compile(_START)
_LABELS = re.compile(rb"(?:" + _START + rb"|(?<=-))(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+\Z")
_LONGEST_HOST = 253
TOKEN = "Fly.io token"
#: In a line longer than this, the text before a name does not make it a mention.
_LONGEST_LINE = 400
HOSTS = frozenset({"fly.io", "fly.dev"})
#: Hosts of Fly.io that a program talks to; every application's own is under fly.dev.
APIS = frozenset({"api.fly.io", "registry.fly.io"})
#: Documents and records, such as a list of tasks: they run nothing. A script under docs/ is not a document.
PROSE_SUFFIXES = (".md", ".mdx", ".rst", ".txt", ".adoc", ".jsonl", ".ndjson", ".csv", ".tsv")
#: Text after `fly.io` in the address of an application's page.
_APPLICATION_PAGE = re.compile(rb"/(?:apps?|dashboard)(?![\w-])")
#: Text after a token's name that is its value: a word of at least 8 characters with a digit.
_VALUE = re.compile(rb"[\"']?[ \t]*[=:][ \t]*[\"']?(?=[\w+/=-]{8})[a-z_+/=-]*\d")
#: Lists of ignored paths, or of code owners.
_LISTS_OF_PATHS = ("ignore", "codeowners", ".gitattributes")
#: A list of words, for a spell checker or a registry, that has not ended yet.
_LIST_OF_WORDS = re.compile(rb"\"(?:(?:cspell\.)?(?:ignore)?words|keywords)\"\s*:\s*\[[^\]]*\Z")
#: Text of a line that demands that something is absent, or is a pattern: its dot is escaped.
_REFUSES = re.compile(
    rb"\bnot in\b|\.not\.?to|\bassert_?not|\bdoes_?not|\brefute|\bshould_?not|fly\\+\.(?:io|dev|toml)"
)
#: A command that prints its words without passing them to another one.
_SHOWS = re.compile(
    rb"(?:.*(?:[;&|({]|\bthen\b|\bdo\b|\belse\b|run:))?\s*(?:echo|printf)\s(?:[^|>;&`$]|\$(?!\())*\Z"
)
_GOES_ON = re.compile(rb"[^\n]*?(?:\||>|`)")
#: Text before a command on its line.
_COMMAND = re.compile(
    rb"(?:.*(?:[;&|(`]|\b(?:run|release|command|script|web|worker):|\bthen\b|\bdo\b|\belse\b|\brun(?=\s)|[\"'])|)\s*(?:(?:[-*+]|\d+[.)])\s+)?"
    rb"(?:(?:sudo|exec|env|time|nohup|command|if|while|until|!|\w+=\S*)\s+)*\Z",
    re.DOTALL,
)
#: A key with a text for people as its value; `name` only with several words.
_TITLE = re.compile(
    rb"\s*(?:-\s+)?[\"']?(?:(?:title|description|summary|subject|comment|note|notes|reason)[\"']?\s*[:=]"
    rb"|name[\"']?\s*:\s*[\"']?\w+ +\w)"
    rb"|.*[{,]\s*\"(?:title|description|summary|comment|notes?)\"\s*:\s*\"[^\"]*\Z"
)
#: A command that searches for a name, without an end before the name.
_SEARCH = re.compile(
    rb"(?:[^\"']|\"[^\"]*\"|'[^']*')*?(?:\A|(?<=[\s;&|(!]))(?:git +grep|e?grep|rg|ag|ack)\b"
    rb"(?:[^\"'|;&`$]|\$(?!\()|\"[^\"`]*\"|'[^']*')*(?:\"[^\"`$]*|'[^']*)?\Z"
)
_BINARY_PROBE = 8192


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """One trace: `host` is the full host name in lower case if it is one, otherwise empty.

    It is `live` if it runs or points somewhere: an address, a token's value, anything in code or
    configuration. It is a mention in prose, in a comment or a title, and in a command that searches for it.
    """

    path: str
    line: int
    kind: str
    text: str
    host: str = ""
    live: bool = True

    def finding(self) -> Finding:
        """The same as a finding; a reference in a file's name has no line."""
        return Finding(
            self.path, self.line, f"{self.kind}: {self.text}" if self.line else f"{self.kind} by its name"
        )


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the plan allows: a host in one file, (`prose`) mentions in a folder, or another `product`.

    The latter is a folder or a file that may contain anything, because it is not part of the platform. An
    `optional` entry may allow nothing: then it is not stale.
    """

    path: str
    reason: str
    host: str = ""
    prose: bool = False
    optional: bool = False
    product: bool = False

    def covers(self, reference: Reference) -> bool:
        """Whether it allows a reference: exact host and exact path, or any mention below the folder."""
        if self.product:
            return reference.path == self.path or (
                self.path.endswith("/") and reference.path.startswith(self.path)
            )
        if self.prose:
            return reference.path.startswith(self.path) and not reference.live
        return reference.path == self.path and reference.host == self.host

    def __str__(self) -> str:
        what = "another product" if self.product else self.host or "mentions in prose"
        return f"{self.path}: {what} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Scan:
    """The result: references that nothing allows, those allowed, allow entries that allowed nothing.

    `live` references run or point somewhere, `mentions` do not. `files` and `binary` count the tracked files
    that were read and those that are not text.
    """

    live: tuple[Reference, ...]
    mentions: tuple[Reference, ...]
    allowed: tuple[Reference, ...]
    stale: tuple[Allowed, ...]
    files: int
    binary: int


def allow_list(entries: Iterable[Mapping[str, Any]]) -> tuple[Allowed, ...]:
    """Read the plan's allow-list. SetupError for an entry that is not exact or gives no reason."""
    found = []
    for number, entry in enumerate(entries, 1):
        unknown = set(entry) - {"path", "host", "prose", "product", "reason", "optional"}
        prose, product = entry.get("prose") is True, entry.get("product") is True
        path, optional = str(entry.get("path", "")), entry.get("optional", False)
        exact = path and not any(sign in path for sign in "*?[") and (product or prose == path.endswith("/"))
        kinds = [prose, product, bool(entry.get("host"))]
        if (
            unknown
            or not exact
            or path == "/"
            or not isinstance(optional, bool)
            or sum(kinds) != 1
            or not entry.get("reason")
        ):
            raise SetupError(
                f"[[facts.flyio.allow]] entry {number} in the plan is not exact: {dict(entry)}\n"
                "allowed: path (a file), host, reason; or path (a folder and /), prose = true, reason; "
                "or path (a file, or a folder and /), product = true, reason; with any, optional = true"
            )
        host, reason = str(entry.get("host", "")).lower(), str(entry["reason"])
        found.append(Allowed(path, reason, host, prose, optional, product))
    return tuple(found)


def references(text: bytes, path: str) -> Iterator[Reference]:
    """Yield the traces in a text, in no particular order."""
    lowered = text.lower()
    for encoded in _ENCODED.finditer(text) if any(each in text for each in _ENCODINGS) else ():
        for token in re.finditer(rb"[\w+/-]{12,}={0,2}", _line_of(text, encoded.start())):
            if encoded.group() in token.group() and (host := _decoded(token.group())):
                line = text.count(b"\n", 0, encoded.start()) + 1
                live = not _is_mention(Comments(path, lowered), encoded.start())
                yield Reference(path, line, "base64 of a Fly.io host", host, "", live)
    if not any(hint in lowered for hint in _ANY):
        return
    comments = Comments(path, lowered)
    for kind, pattern in PATTERNS.items():
        if _HINTS.get(kind, b"") not in lowered:
            continue
        for match in pattern.finditer(lowered):
            start = _host_start(lowered, match.start()) if kind in HOSTS else match.start()
            before = _before(lowered, match.start())[-_LONGEST_LINE:]
            if kind == "fly command" and not _COMMAND.match(before):
                continue
            if start is not None:
                line = text.count(b"\n", 0, start) + 1
                found = text[start : match.end()].decode(errors="replace")
                host = found.lower() if kind in HOSTS else ""
                live = _points(kind, host, lowered, match.end()) or not _is_mention(comments, start)
                # a token's value is a secret: no report shows it
                yield Reference(path, line, kind, f"{found[:4]}…" if kind == TOKEN else found, host, live)


def _encodings(name: bytes) -> Iterator[bytes]:
    """The base64 letters of a name at each offset, without those that depend on its neighbours."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + name + bytes(3))
        yield encoded[-(-before * 8 // 6) : (before + len(name)) * 8 // 6]


_ENCODINGS = tuple(each for name in (b"fly.dev", b".fly.io") for each in _encodings(name))
_ENCODED = re.compile(b"|".join(map(re.escape, _ENCODINGS)))


def _line_of(text: bytes, at: int) -> bytes:
    """The line around a place."""
    return _before(text, at) + text[at : at + _LONGEST_LINE].partition(b"\n")[0]


def _decoded(token: bytes) -> str:
    """The Fly.io host inside a base64 text."""
    plain = token.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        text = base64.b64decode(plain + b"=" * (-len(plain) % 4))
    except ValueError:
        return ""
    found = next((each for each in references(text, "") if each.host), None)
    return found.host if found is not None else ""


def _points(kind: str, host: str, text: bytes, end: int) -> bool:
    """Whether a reference points somewhere in any context: an address, a token's value."""
    if kind in HOSTS:
        page = host == "fly.io" and _APPLICATION_PAGE.match(text, end) is not None
        return host.endswith(".fly.dev") or host in APIS or page
    named = kind == "Fly.io variable" and text[:end].endswith(b"_token")
    return kind == TOKEN or (named and _VALUE.match(text, end) is not None)


def _is_mention(comments: Comments, start: int) -> bool:
    """Whether the text at `start` only mentions Fly.io, by the kind of the file and by its line."""
    name, text = comments.name, comments.text
    if name.endswith((*PROSE_SUFFIXES, *_LISTS_OF_PATHS)):
        return True
    before = _before(text, start)
    if len(before) > _LONGEST_LINE:
        return False
    if comments.cover(start) or _TITLE.match(before) or _SEARCH.match(before):
        return True
    line = before + text[start : start + _LONGEST_LINE].partition(b"\n")[0]
    if _REFUSES.search(line) or (_SHOWS.match(before) and not _GOES_ON.match(text, start)):
        return True
    return name.endswith(".json") and _LIST_OF_WORDS.search(text[:start]) is not None


def _before(text: bytes, start: int) -> bytes:
    """The text before a place on its line."""
    return text[text.rfind(b"\n", 0, start) + 1 : start]


def _host_start(text: bytes, domain: int) -> int | None:
    """Where the host that ends in the domain at this place begins; None inside another word.

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
    """Return a file's text in an encoding that contains ASCII as it is, None for a binary file."""
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
        found += [replace(ref, line=0) for ref in references(name, file.path)]
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
    others = sorted(set(found) - set(allowed))
    return Scan(
        live=tuple(ref for ref in others if ref.live),
        mentions=tuple(ref for ref in others if not ref.live),
        allowed=tuple(sorted(allowed)),
        stale=tuple(
            entry
            for entry in allow_list
            if not entry.optional and not any(entry.covers(ref) for ref in found)
        ),
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
#: Texts that must not count as references.
DECOYS = "butterfly.io on-the-fly deployment BUTTERFLY_API_TOKEN dragonfly.toml fly.io.example.org"
KINDS = (
    "Dockerfile*", "*.yml", "*.yaml", "*.tf", "*.tfvars", "*.sh", "*.ts", "*.js", "*.py", "*.json", "*.toml",
    ".*",
)  # fmt: skip
PER_KIND = 5


def fields(checkout: Checkout) -> list[str]:
    """Return some files of each kind that could contain a reference; in prose it would only be a mention."""
    regular = [file.path for file in checkout.tracked() if file.mode != SYMLINK]
    regular = [path for path in regular if not path.lower().endswith((*PROSE_SUFFIXES, *_LISTS_OF_PATHS))]
    chosen: dict[str, None] = {}
    for kind in KINDS:
        alike = [path for path in regular if fnmatch.fnmatchcase(PurePosixPath(path).name, kind)]
        chosen.update(dict.fromkeys(alike[:PER_KIND]))
    return [*chosen]


def plant(checkout: Checkout) -> Iterator[tuple[str, int]]:
    """Append all plants and decoys to those files, and yield each file with how many plants it got.

    `checkout` must be a scratch copy.
    """
    present = [path for path in fields(checkout) if (checkout.root / path).is_file()]
    for number, path in enumerate(present):
        lines = [plant.format(number=number) for plant in PLANTS]
        with (checkout.root / path).open("ab") as file:
            file.write("\n".join(["", *lines, DECOYS, ""]).encode())
        yield path, len(lines)
