"""Credentials in tracked files: private keys, access keys, tokens, passwords of real hosts.

A finding says where one is and never shows it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from .checkout import Checkout, Comments, Finding, git

#: Words of a path whose credentials protect nothing: of tests, of a developer's machine.
_PRACTICE = re.compile(
    r"(?:\A|[/._-])(?:tests?|test_?(?:util|helper|support|kit)s?|conftest|cypress|specs?|fixtures?|examples?|samples?|templates?|tpl|dist|mocks?"
    r"|stubs?|dummy|fakes?|demos?"
    r"|dev|develop(?:ment)?|devcontainer|local(?:host)?|localstack|e2e|testdata|testing|snakeoil|vendor|node_modules|sandbox)(?=[/._-]|\Z)",
    re.IGNORECASE,
)
_PROSE = (".md", ".mdx", ".rst", ".adoc", ".txt")
#: Files that are encrypted in the repository, though not in an unlocked working tree, as git's paths.
_ENCRYPTED = [f":(attr:filter={each})" for each in ("git-crypt", "crypt", "sops", "git-agecrypt")]
#: Larger files hold data, which nobody writes by hand.
_LARGEST = 1_000_000
#: Words of a value that stands for another one.
_STANDS_IN = re.compile(
    r"example|change|replace|placeholder|password|passwd|\bpass\b|secret|dummy|sample|todo|redacted|your|insert|enter"
    r"|x{4}|\*{3}|\.{3}|1234|abcd|0000|[${}<>\[\]]|%(?![0-9A-Fa-f]{2})|ENC\(|vault:",
    re.IGNORECASE,
)
#: Different characters that a random token has at least.
_RANDOM = 12
_PEM = re.compile(
    r"-----BEGIN (?!ENCRYPTED)(?:[A-Z]+ )?PRIVATE KEY-----(?:\\r)?(?:\\n|\s)+"
    r"(?P<body>[\w+/=](?:[\w+/=]|\\r|\\n|\s)+?)-----END"
)
_JWK = re.compile(r"\{(?=[^{}]*\"kty\")[^{}]*\"d\"\s*:\s*\"(?P<value>[\w-]{40,})\"")
_KEY_ID = re.compile(r"(?<![A-Z0-9])A[KS]IA[A-Z2-7]{16}(?![A-Z0-9])")
#: A secret key; a commit's id is as long, in lower case.
_KEY = re.compile(r"(?<![\w+/-])(?=[a-z0-9+/]*[A-Z])[\w+/]{40}(?![\w+/=-])")
#: Starts of private keys that standards and jwt.io print as examples.
_PRINTED = re.compile(r"870MB6gfuTJ4HtUn|nWGxne_9WmC6hEr0|jpsQnnGQmL-YBIff|C7VJTUt9Us8cKj|evZzL1gdAFr88hb2")
#: How far from its id an access key may stand, in characters.
_BESIDE = 400
#: Tokens by whose they are; each is enough to be let in.
_TOKENS = {
    "GitHub": re.compile(r"(?<!\w)gh[pousr]_(?P<value>\w{36,})|(?<!\w)github_pat_(?P<pat>\w{60,})"),
    "npm": re.compile(r"(?<!\w)npm_(?P<value>[A-Za-z0-9]{36})(?!\w)"),
    "Slack": re.compile(
        r"hooks\.slack\.com/services/T\w+/B\w+/(?P<value>\w{20,})|(?<!\w)xox[abprs]-(?:\d+-)+(?P<pat>\w{20,})"
    ),
    "Stripe": re.compile(r"(?<!\w)[sr]k_live_(?P<value>\w{20,})"),
}
#: The host is behind the last @, so that no part of a password is shown as one; a port has no password.
_URL = re.compile(r"(?<!\w)[a-z][a-z0-9+]*://[^\s:/@\"']*:(?!\d+[?#])(?P<value>[^\s/\"']+)@(?P<host>[\w.-]+)")
#: Hosts that nobody reaches from elsewhere, or that only illustrate.
_NO_HOST = re.compile(
    r"(?:.*\.)?(?:localhost|local|lan|svc|internal|docker|test|invalid|example(?:\.\w+)?)|[\d.]+|[\w-]+"
    r"|.*(?:\byour|xxx|placeholder).*",
    re.IGNORECASE,
)
_SETS = re.compile(
    r"^[ \t]*(?:export[ \t]+)?\"?"
    r"(?P<name>\w*(?:password|passwd|secret|token|api_?key|private_?key))\"?[ \t]*[=:][ \t]*"
    r"(?P<quote>[\"']?)(?P<value>[^\s\"']{12,})(?P=quote)[ \t]*,?[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
#: Variables that are built into pages, which everybody may read.
_FOR_PAGES = re.compile(r"(?:VITE|REACT_APP|GATSBY|VUE_APP)_|(?:.*_)?PUBLI(?:C|SHABLE)_", re.IGNORECASE)
#: Files of values, by which an environment is deployed.
_VALUES = re.compile(
    r"(?:.*/)?(?:[^/]*\.tfvars(?:\.json)?|\.?env[^/]*(?:staging|prod)[^/]*|[^/]*(?:staging|prod)[^/]*\.env)\Z"
)
_STATES = re.compile(r"\.tfstate(?:\.backup)?\Z")
#: Resources whose attributes in Terraform's state are secret.
_STATE = re.compile(
    r"\"type\":\s*\"(?:random_password|tls_private_key|aws_secretsmanager_secret_version|aws_iam_access_key)\""
)
#: A text with any credential contains one of these.
_ANY = re.compile(
    rb"PRIVATE KEY-|\"kty\"|A[KS]IA[A-Z2-7]{16}|gh[pousr]_|github_pat_|npm_|hooks\.slack|xox|k_live_|://[^\s/:]*:[^\s/]*@"
)


def exposed(checkout: Checkout) -> tuple[int, list[Finding]]:
    """Return how many tracked files were read, and the credentials that they hold."""
    count, found = 0, list[Finding]()
    encrypted = {*git(checkout.root, "ls-files", "-z", *_ENCRYPTED).split("\0")}
    for file in checkout.tracked():
        left_out = file.path in encrypted or _PRACTICE.search(file.path)
        content = None if left_out else checkout.content(file)
        if content is None or len(content) > _LARGEST or b"\0" in content:
            continue
        count += 1
        if _ANY.search(content) or _VALUES.fullmatch(file.path) or _STATES.search(file.path):
            text = content.decode("utf-8", "replace")
            found += [
                Finding(file.path, text.count("\n", 0, at) + 1, what)
                for at, what in _credentials(file.path, text)
            ]
    return count, list(dict.fromkeys(found))


def _credentials(path: str, text: str) -> Iterator[tuple[int, str]]:
    yield from _keys(text)
    for whose, pattern in _TOKENS.items():
        for match in pattern.finditer(text):
            if _is_random(match["value"] or match.groupdict().get("pat") or ""):
                yield match.start(), f"a token of {whose} is in the repository"
    if PurePosixPath(path).suffix not in _PROSE:
        yield from _passwords(path, text)
    if _STATES.search(path) and (state := _STATE.search(text)) is not None:
        yield state.start(), "Terraform's state is in the repository, with the secrets in it"


def _keys(text: str) -> Iterator[tuple[int, str]]:
    """Private keys as PEM and as JWK, and access keys of AWS beside their ids."""
    pems = [
        match.start()
        for match in _PEM.finditer(text)
        if _is_key(match["body"]) and not _PRINTED.search(match["body"])
    ]
    jwks = [
        match.start()
        for match in _JWK.finditer(text)
        if _is_random(match["value"]) and not _PRINTED.search(match["value"])
    ]
    yield from ((at, "a private key is in the repository") for at in (*pems, *jwks))
    for match in _KEY_ID.finditer(text):
        around = text[max(0, match.start() - _BESIDE) : match.end() + _BESIDE]
        if any(map(_is_random, _KEY.findall(around))) and not _STANDS_IN.search(match[0]):
            yield match.start(), "an access key of AWS is in the repository, with its id"


def _passwords(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Passwords in addresses of hosts, outside of comments, and in files of values."""
    comments = Comments(path, text.encode())
    for match in _URL.finditer(text):
        idle = _NO_HOST.fullmatch(match["host"]) or _STANDS_IN.search(match["value"])
        if not idle and not comments.cover(len(text[: match.start()].encode())):
            yield match.start(), f"the password of a user of {match['host']} is in the repository"
    for match in _SETS.finditer(text) if _VALUES.fullmatch(path) else ():
        if _is_password(match["value"]) and not _FOR_PAGES.match(match["name"]):
            yield match.start("name"), f"{match['name']} is in the repository in plain text"


def _is_key(body: str) -> bool:
    """Whether the body of a PEM is a key's: DER, or OpenSSH's form; not encrypted, not shortened."""
    try:
        held = base64.b64decode(re.sub(r"\\r|\\n|\s", "", body), validate=True)
    except (binascii.Error, ValueError):
        return False
    der = held[:1] == b"\x30" and len(held) > _SMALLEST_KEY
    return der or held.startswith(b"openssh-key-v1\0\0\0\0\x04none")


#: Bytes of a P-256 key without its public part, about.
_SMALLEST_KEY = 40


def _is_random(value: str) -> bool:
    return len(set(value)) >= _RANDOM and not _STANDS_IN.search(value) and re.search(r"\d", value) is not None


def _is_password(value: str) -> bool:
    """Whether a value is a password: no name, address, path or version."""
    kinds = [re.search(each, value) for each in (r"[a-z]", r"[A-Z]", r"\d")]
    return (
        all(kinds)
        and not re.search(r"[/:]", value)
        and not _STANDS_IN.search(value)
        and len(set(value)) >= _VARIED
    )


#: Different characters of a password that somebody made to be safe.
_VARIED = 8
