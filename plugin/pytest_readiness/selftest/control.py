"""The control port of a platform that takes faults: JSON over loopback HTTP.

    PUT    /faults/{id}    turn a fault on; the body is its parameters
    DELETE /faults/{id}    turn it off and undo what it did
    GET    /faults         {"active": {id: params}}
    POST   /reset          everything as it was after the boot; the answer may hold the state's {"digest"},
                           and in {"restarted": []} the parts that were found dead
    GET    /state          {"digest"}: equal states have equal digests

A request that cannot be carried out is answered with a status of 400 or more and {"message"}.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from .errors import PlatformError

TIMEOUT_S = 90.0


class Control:
    """Acts on one platform. Every method raises PlatformError when it is not done."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = urlsplit(url)

    def set(self, fault_id: str, params: Mapping[str, Any]) -> None:
        """Turn a fault on."""
        self._ask("PUT", f"/faults/{quote(fault_id, safe='')}", dict(params))

    def clear(self, fault_id: str) -> None:
        """Turn a fault off."""
        self._ask("DELETE", f"/faults/{quote(fault_id, safe='')}")

    def reset(self) -> str:
        """Bring back the state of the boot; return the state that this led to, as `state` does."""
        told = self._ask("POST", "/reset")
        return self._state(told) if "digest" in told else self.state()

    def state(self) -> str:
        """Return a text that is equal for equal states: the digest, and the faults that are on."""
        return self._state(self._ask("GET", "/state"))

    def _state(self, told: Mapping[str, Any]) -> str:
        digest, active = told.get("digest"), self._ask("GET", "/faults").get("active")
        if not isinstance(digest, str) or not isinstance(active, Mapping):
            raise PlatformError(
                "the control port does not tell its state",
                where=self.url,
                allowed='GET /state: {"digest": text}, GET /faults: {"active": {}}',
            )
        # what died by itself made checks red, whatever the fault was
        died = told.get("restarted") or ()
        ended = f", died meanwhile: {', '.join(map(str, died))}" if died else ""
        return f"state {digest}, faults on: {', '.join(sorted(active)) or 'none'}{ended}"

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        connection = http.client.HTTPConnection(
            self._address.hostname or "", self._address.port, timeout=TIMEOUT_S
        )
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise PlatformError(
                f"no answer to {method} {path}: {type(problem).__name__}: {problem}", where=self.url
            ) from problem
        finally:
            connection.close()
        told = answer if isinstance(answer, Mapping) else {}
        if response.status >= http.client.BAD_REQUEST:
            words = " ".join(str(told.get("message", response.reason)).split())
            raise PlatformError(
                f"{method} {path} is answered with {response.status}: {words}", where=self.url
            )
        return told
