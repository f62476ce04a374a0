"""The scanner's positive control: references planted into a scratch copy of the checkout's own files."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import PurePosixPath

from .checkout import SYMLINK, Checkout

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
