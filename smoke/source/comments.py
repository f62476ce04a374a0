"""The comments of a text, by the language that its name says it is written in."""

import ast
import itertools
import re
import warnings
from bisect import bisect_right

#: A line that is a comment, by the languages in which a file may be written; a shebang is no comment.
_HASH = re.compile(rb"\s*#(?!!)")
_SLASH = re.compile(rb"\s*(?://|/\*|\*(?=[\s/]))")
_LINES = {
    (".sql", ".lua", ".hs"): re.compile(rb"\s*--"),
    (".ini", ".cfg", ".zone", ".db", ".clj", ".el"): re.compile(rb"\s*;"),
    (".tex",): re.compile(rb"\s*%"),
    (".properties",): re.compile(rb"\s*!"),
    (".bat", ".cmd"): re.compile(rb"\s*@?(?:rem\s|::)", re.IGNORECASE),
    (".tf", ".tofu", ".hcl", ".tfvars", ".php", ".scss", ".swift", ".dart", ".proto", ".gradle", ".groovy"):
        _SLASH,
}  # fmt: skip
#: A comment after code, with no open quotes before it.
_BEHIND_CODE = {
    sign: re.compile(rb"(?:[^\"'`]|\"[^\"]*\"|'[^']*'|`[^`]*`)*?\s" + sign + rb"(?=\s)")
    for sign in (b"#", b"//")
}
_SLASH_SUFFIXES = (
    ".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs", ".cjs", ".go", ".rs", ".java", ".kt", ".c", ".h", ".cc",
    ".cpp", ".cs", ".css", ".less", ".vue", ".svelte",
)  # fmt: skip
_HASH_IS_CODE = (*_SLASH_SUFFIXES, ".json")
_MARKUP = (".html", ".htm", ".xml", ".svg", ".vue", ".svelte")
_STRINGS = rb"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
#: Comments of several lines; what stands in front of `(?P<comment>` hides a beginning inside of it.
_BLOCKS = {
    (*_SLASH_SUFFIXES, ".sql", *next(key for key in _LINES if ".tf" in key)):
        re.compile(_STRINGS + rb"|//[^\n]*|(?<![\\/])(?P<comment>/\*.*?\*/)", re.DOTALL),
    _MARKUP: re.compile(rb"(?P<comment><!--.*?-->)", re.DOTALL),
    (".rb",): re.compile(rb"^(?P<comment>=begin\b.*?^=end\b)", re.DOTALL | re.MULTILINE),
    (".ps1",): re.compile(rb"(?P<comment><#.*?#>)", re.DOTALL),
    (".lua",): re.compile(rb"(?P<comment>--\[\[.*?\]\])", re.DOTALL),
    # a text that no command reads, or that is only shown
    ("",): re.compile(
        rb"(?P<comment>^[ \t]*(?::|cat)[ \t]*<<-?[ \t]*([\"']?)(\w+)\2[ \t]*$.*?^[ \t]*\3$)",
        re.DOTALL | re.MULTILINE,
    ),
}  # fmt: skip


class Comments:
    """The comments of one text; `path` says in which language it is written."""

    def __init__(self, path: str, text: bytes) -> None:
        self.name = path.lower()
        self.text = text
        self._spans: list[tuple[int, int]] | None = None

    def cover(self, start: int) -> bool:
        """Whether the byte at `start` is in a comment."""
        before = self.text[self.text.rfind(b"\n", 0, start) + 1 : start]
        return self._on_line(before) or self._in_block(start)

    def _on_line(self, before: bytes) -> bool:
        hash_is_comment = not self.name.endswith(_HASH_IS_CODE)
        if hash_is_comment and (_HASH.match(before) or _BEHIND_CODE[b"#"].match(before)):
            return True
        if self.name.endswith(_SLASH_SUFFIXES) and (
            _SLASH.match(before) or _BEHIND_CODE[b"//"].match(before)
        ):
            return True
        return any(self.name.endswith(suffixes) and sign.match(before) for suffixes, sign in _LINES.items())

    def _in_block(self, start: int) -> bool:
        if self._spans is None:
            self._spans = sorted(_docstrings(self.text) if self.name.endswith(".py") else self._blocks())
        at = bisect_right(self._spans, (start, len(self.text))) - 1
        return at >= 0 and start < self._spans[at][1]

    def _blocks(self) -> list[tuple[int, int]]:
        patterns = [pattern for suffixes, pattern in _BLOCKS.items() if self.name.endswith(suffixes)]
        found = itertools.chain.from_iterable(pattern.finditer(self.text) for pattern in patterns)
        return [match.span("comment") for match in found if match["comment"]]


def _docstrings(text: bytes) -> list[tuple[int, int]]:
    """The strings that are statements of their own: they document, and do nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code that is read
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    lines = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
    return [
        (lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + (node.end_col_offset or 0))
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and node.end_lineno
    ]
