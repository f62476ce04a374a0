"""Alterations of what runs in AWS, by name; the side door's restore undoes them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.aws import altered_bounds, altered_compute, altered_monitoring, altered_secrets, key_operator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.aws.emulator import Alteration, Emulator


def _api_refuses(emulator: Emulator, service: str, code: str) -> None:
    """Have every call of a service (its signing name; `*` for all) refused with an error code."""
    emulator.refusals.deny(service, code)


ALTERATIONS: dict[str, Alteration] = {
    **altered_bounds.ALTERATIONS,
    **altered_compute.ALTERATIONS,
    **altered_monitoring.ALTERATIONS,
    **altered_secrets.ALTERATIONS,
    **key_operator.ALTERATIONS,
    "api-refuses": _api_refuses,
}


def apply(emulator: Emulator, name: str, params: Mapping[str, Any]) -> None:
    """Apply the alteration `name`.

    Raises LookupError for an unknown name or for something that is not there to be altered, TypeError for
    parameters that it does not take.
    """
    if name not in ALTERATIONS:
        raise LookupError(f"no alteration {name!r}; known: {', '.join(sorted(ALTERATIONS))}")
    ALTERATIONS[name](emulator, **params)
