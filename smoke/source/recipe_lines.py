"""A line of a recipe, and how the words of a command that asks for recipes are read."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

#: Finds a file by a name or a path: where it is in the checkout, and its text.
Find = Callable[[str], tuple[str, str] | None]


@dataclass(frozen=True, slots=True)
class Line:
    """What one shell runs, at `line` of `path`, in `directory` ("" for that of the command).

    `ignored` where its failure is none of the command's; `maybe` is what decides whether it runs, and is not
    read; `unread` says why the line is not followed: then `text` is what it speaks of.
    """

    path: str
    line: int
    text: str
    options: tuple[str, ...] = ()
    ignored: bool = False
    directory: str = ""
    maybe: str = ""
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The words behind a program: options with their values, names, `NAME=value`, what is behind `--`."""

    options: dict[str, str]
    names: list[str]
    settings: dict[str, str]
    rest: list[str]

    @classmethod
    def of(cls, words: Sequence[str], valued: Collection[str]) -> "Arguments":
        """Read words; the options `valued` have the next word for a value, a number those of `-j`."""
        found, waiting = cls({}, [], {}, []), list(words)
        while waiting:
            word = waiting.pop(0)
            if word == "--":
                found.rest.extend(waiting)
                break
            name, equals, value = word.partition("=")
            if word.startswith("-"):
                takes = waiting and (name in valued or (name == "-j" and waiting[0].isdigit()))
                found.options[name] = value if equals else waiting.pop(0) if takes else ""
            elif equals and name.replace("_", "a").isalnum():
                found.settings[name] = value
            else:
                found.names.append(word)
        return found

    def option(self, *names: str) -> str | None:
        """The value of the first of these options that is given; None when none is."""
        return next((self.options[name] for name in names if name in self.options), None)
