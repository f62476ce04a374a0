"""Disks of the runner that are full, fill up or are read-only: real ones, mounted for each case."""

from __future__ import annotations

import subprocess
from functools import cache

from tests.hostile.runner import NAMESPACE, Trouble, old_ready

_OPEN = ("", "NO_VERDICT", "BROKEN")


def _disk(place: str, kilobytes: int, *, filled: bool = False) -> str:
    """Mount a small disk that has the content of a directory, and no room if it is ``filled``."""
    fill = f"; dd if=/dev/zero of={place}/fill bs=1k 2>/dev/null || true" if filled else ""
    return (
        f"mkdir -p {place}; cp -r {place} was; "
        f"mount -t tmpfs -o size={kilobytes}k none {place}; cp -r was/. {place}; rm -rf was{fill}"
    )


_READ_ONLY = 'mount --bind "$PWD" "$PWD"; mount -o remount,ro,bind "$PWD"; cd "$PWD"'
#: The old report must be gone even where the new one cannot be written.
DISKS = [
    Trouble(
        "disk-full-at-reports", prepare=old_ready, mounts=_disk("reports", 32, filled=True), verdicts=("",)
    ),
    *(
        Trouble(
            f"disk-of-{size}-kb-at-reports", prepare=old_ready, mounts=_disk("reports", size), verdicts=_OPEN
        )
        for size in (4, 8, 12, 16, 20, 24, 32)
    ),
    Trouble("disk-full-at-ledger", mounts=_disk(".readiness", 4, filled=True), verdicts=_OPEN),
    Trouble("disk-of-4-kb-at-ledger", mounts=_disk(".readiness", 4), verdicts=_OPEN),
    Trouble("disk-full-at-tmp", {"TMPDIR": "small"}, mounts=_disk("small", 4, filled=True), verdicts=_OPEN),
    Trouble("read-only-checkout", mounts=_READ_ONLY, verdicts=("",)),
    Trouble(
        "read-only-checkout-with-volumes",
        prepare=old_ready,
        mounts="mkdir .readiness; " + _READ_ONLY + "; for each in reports .readiness; do "
        'mount --bind "$PWD/$each" "$PWD/$each"; mount -o remount,rw,bind "$PWD/$each"; done',
    ),
]


@cache
def can_mount() -> bool:
    """Whether this machine allows a process its own mounts."""
    try:
        return not subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]).returncode
    except OSError:
        return False
