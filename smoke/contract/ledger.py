"""The reference ledger: what a call costs its tenant, and what its key makes of it (contract 1.2, 1.5).

Amounts are integers in µUSD. Prices are the platform's own: a call is charged what its answer says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Ruling(StrEnum):
    """What the contract lets a call come to."""

    RUN = "the model runs, and the call is charged"
    REPLAY = "the stored answer again, not charged"
    CONFLICT = "refused: the key was used with another body"
    OVER_BUDGET = "refused: the budget has no room"


class LedgerError(ValueError):
    """A move that no history of calls allows: the text tells which."""


@dataclass(frozen=True, slots=True)
class Call:
    """What decides about a call: who pays, under which key, for which body (equal bodies, equal text)."""

    tenant: str
    key: str
    body: str


@dataclass(slots=True)
class Account:
    """The budget of one tenant, µUSD. Up to ``blur`` more may be committed, where only cents are served."""

    limit: int
    committed: int = 0
    reserved: int = 0
    blur: int = 0

    @property
    def room(self) -> int:
        """What may still be reserved."""
        return self.limit - self.committed - self.reserved


class Ledger:
    """Accounts by tenant, and the answered calls by tenant and key. Keys are compared byte by byte."""

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self.accounts = dict(accounts)
        self._held: dict[Call, int] = {}
        self._answers: dict[tuple[str, str], tuple[str, str]] = {}

    def rulings(self, call: Call, least: int, most: int) -> frozenset[Ruling]:
        """What the answer may be, for a price within these bounds.

        The key is looked up before the budget. Several rulings are left where the exact price decides, or
        where other calls are under way: what they reserve may return, and what is under the same key may be
        answered first.
        """
        if (call.tenant, call.key) in self._answers:
            same = self._answers[call.tenant, call.key][0] == call.body
            return frozenset({Ruling.REPLAY if same else Ruling.CONFLICT})
        account = self.accounts[call.tenant]
        rulings = {Ruling.RUN} if account.committed + least <= account.limit else set()
        if most > account.room - account.blur:
            rulings.add(Ruling.OVER_BUDGET)
        for other in self._held:
            if (other.tenant, other.key) == (call.tenant, call.key):
                rulings.add(Ruling.REPLAY if other.body == call.body else Ruling.CONFLICT)
        return frozenset(rulings)

    def reserve(self, call: Call, amount: int) -> bool:
        """Set the amount aside for a call that begins, if it fits: up to the limit itself."""
        if call in self._held or (call.tenant, call.key) in self._answers:
            raise LedgerError(f"{call.tenant} has a call under {call.key} already")
        account = self.accounts[call.tenant]
        if amount > account.room:
            return False
        account.reserved += amount
        self._held[call] = amount
        return True

    def release(self, call: Call, produced: int = 0) -> None:
        """The call failed or was hung up on: its reservation returns, less the price of what was produced."""
        held = self._returned(call)
        if not 0 <= produced <= held:
            raise LedgerError(f"{call.key} reserved {held} µUSD, {produced} cannot be due for it")
        self.accounts[call.tenant].committed += produced

    def charge(self, call: Call, cost: int, answer: str) -> None:
        """The call was answered: what it reserved becomes its cost, and its key has its answer."""
        account = self.accounts[call.tenant]
        self._returned(call)
        if not 0 < cost <= account.room:
            raise LedgerError(f"{call.key} cannot cost {cost} µUSD: {account.room} are left")
        account.committed += cost
        self._answers[call.tenant, call.key] = call.body, answer

    def answer(self, tenant: str, key: str) -> str:
        """The answer that is stored under a key of a tenant."""
        if (tenant, key) not in self._answers:
            raise LedgerError(f"no call of {tenant} under {key} was answered")
        return self._answers[tenant, key][1]

    def _returned(self, call: Call) -> int:
        try:
            held = self._held.pop(call)
        except KeyError:
            raise LedgerError(f"{call.tenant} has nothing reserved under {call.key}") from None
        self.accounts[call.tenant].reserved -= held
        return held
