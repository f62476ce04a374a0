"""How the services look from outside: health and public keys, compared with how they looked at boot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stack import StackError
from stack.ports import get_json
from stack.process import wait_until
from stack.services import HEALTH

if TYPE_CHECKING:
    from stack.services import Addresses

JWKS = {
    "freeside": "/.well-known/jwks.json",
    "finn": "/.well-known/jwks.json",
    "dixie": "/api/auth/.well-known/jwks.json",
}
SETTLES_WITHIN_S = 15.0
Look = dict[str, tuple[Any, Any]]


class View:
    """Watches the services that run here; a replaced one is somebody else's business."""

    def __init__(self, addresses: Addresses) -> None:
        self._urls = {name: addresses.urls[name] for name in JWKS if name not in addresses.replaced}
        # With a part replaced, its neighbours may rightly call themselves degraded.
        self._all_here = not addresses.replaced
        self._at_boot: Look = {}

    def remember(self) -> None:
        """Wait until every service is well and take that as the look to come back to.

        Raises StackError when all parts run here and one is not well in time.
        """
        well = wait_until(self._all_well, time.monotonic() + SETTLES_WITHIN_S)
        self._at_boot = self._look()
        if self._all_here and not well:
            states = ", ".join(f"{name}: {status}" for name, (status, _) in self._at_boot.items())
            raise StackError("the services run, but not well", states)

    def await_boot_look(self) -> None:
        """Wait until every service looks as it did at boot: as healthy, with the same keys.

        Raises StackError when that does not happen in time.
        """
        if not wait_until(lambda: self._look() == self._at_boot, time.monotonic() + SETTLES_WITHIN_S):
            look = self._look()
            other = [name for name in look if look[name] != self._at_boot[name]]
            raise StackError("after the reset a service looks other than at boot", ", ".join(other))

    def _all_well(self) -> bool:
        return all(status == "healthy" and jwks for status, jwks in self._look().values())

    def _look(self) -> Look:
        return {
            name: (
                (get_json(url + HEALTH[name]) or {}).get("status"),
                (get_json(url + JWKS[name]) or {}).get("keys"),
            )
            for name, url in self._urls.items()
        }
