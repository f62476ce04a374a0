"""Remembers the emulator's whole state after the seed, and brings it back.

ministack keeps everything in module globals of two dictionary classes; they are private to it, hence the
exact pin. Metrics are left out: they belong to the clock, and the feeder keeps them fresh.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from typing import Any

SERVICES = "ministack.services."
# Changes by looking: two equal states may differ in it.
NOT_COMPARED = {"LastAccessedDate"}
NOT_STATE = {("ministack.services.cloudwatch", "_metrics")}


class Memory:
    """The state of the emulator at one moment, by module and by name."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[Any, Any]] | None = None

    @property
    def filled(self) -> bool:
        """Whether a state has been remembered."""
        return self._seen is not None

    def remember(self) -> None:
        """Take the present state as the one to come back to."""
        self._seen = {key: copy.deepcopy(store._data) for key, store in _stores().items()}

    def restore(self) -> None:
        """Bring back the remembered state of every service; what was created since is gone."""
        if self._seen is None:
            return
        for key, store in _stores().items():
            remembered = copy.deepcopy(self._seen.get(key, {}))
            # Entry by entry: a request served meanwhile finds the old entry or the new one, never a gap.
            for created in store._data.keys() - remembered.keys():
                del store._data[created]
            store._data.update(remembered)


def digest() -> str:
    """Return the SHA-256 of the present state, the same for equal states."""
    lines = [
        f"{module}.{name}: {_stable(store._data)}"
        for (module, name), store in _stores().items()
        if store._data
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _stores() -> dict[tuple[str, str], Any]:
    from ministack.core.responses import AccountRegionScopedDict, AccountScopedDict

    found: dict[int, tuple[tuple[str, str], Any]] = {}
    for module_name, module in sorted(sys.modules.items()):
        if not module_name.startswith(SERVICES):
            continue
        for name, value in sorted(vars(module).items()):
            if (module_name, name) in NOT_STATE:
                continue
            if isinstance(value, AccountScopedDict | AccountRegionScopedDict):
                found.setdefault(id(value), ((module_name, name), value))
    return dict(found.values())


def _stable(value: Any) -> str:
    if isinstance(value, dict):
        kept = ((key, item) for key, item in value.items() if key not in NOT_COMPARED)
        return "{" + ",".join(sorted(f"{_stable(key)}:{_stable(item)}" for key, item in kept)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_stable(item) for item in value) + "]"
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(_stable(item) for item in value)) + "}"
    return repr(value)
