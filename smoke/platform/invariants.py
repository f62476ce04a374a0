"""Conservation of money: readings of a tenant's budget, and the invariants I-1 to I-8 (contract 1.5)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from pytest_readiness import Evidence, SafetyViolation, SetupError

from smoke.contract.exchange import MICRO_PER_CENT

from .answers import Fields, fields_of, shown
from .http import wait
from .spend import SpendJournal

PERIOD = r"[0-9]{4}-(0[1-9]|1[0-2])"

I1 = "I-1 committed + reserved <= limit"
I2 = "I-2 figures >= 0"
I3 = "I-3 committed never falls"
I4 = "I-4 the limit does not move"
I5 = "I-5 committed moves by the sum of charges"
I6 = "I-6 reserved returns to its level"
I7 = "I-7 charges land on the token's tenant only"
I8 = "I-8 a refused or failed call changes nothing"

#: A charge is due with its answer, at the latest when its reservation is released (I-6); this much later it
#: counts as missing.
GRACE_S = 2.0
RELEASED_WITHIN_S = 10.0
GRACE_EVERY_S = 0.1
#: How often a budget is read while looking for other users.
_LOOKS = 20
#: Maximum probability that others caused what the platform is blamed for.
CHANCE = 0.01


def pauses(longest_s: float) -> Iterator[float]:
    """Waits before each further reading: only a moment at first, which is usually enough, then longer."""
    pause = longest_s / 8
    while True:
        wait(pause)
        yield pause
        pause = min(2 * pause, longest_s)


@dataclass(frozen=True, slots=True)
class BudgetReading:
    """One reading of a budget, in µUSD. ``exact`` is False if the platform serves only whole cents.

    The gateway dialect serves one figure for committed and reserved together: it is read as committed, with
    reserved 0.
    """

    tenant: str
    limit: int
    committed: int
    reserved: int
    exact: bool
    period: str = ""

    @property
    def room(self) -> int:
        """The amount that may still be spent."""
        return self.limit - self.committed - self.reserved

    @property
    def tolerance_per_call(self) -> int:
        """How far a charge may be from the cost: nothing, or a cent per call if only cents are served."""
        return 0 if self.exact else MICRO_PER_CENT


def reading_of(response: httpx.Response, dialect: str, tenant: str) -> BudgetReading:
    """The reading of an answer; ContractViolation for a wrong type, another tenant, contradictory figures."""
    fields = fields_of(response)
    if fields.raw("communityId", f"{tenant!r}") != tenant:
        fields.refuse("communityId", repr(tenant), shown(fields.data["communityId"]))
    return _gateway(fields, tenant) if dialect == "gateway" else _community(fields, tenant)


def _community(fields: Fields, tenant: str) -> BudgetReading:
    limit = fields.integer("monthlyBudgetCents")
    committed, spent = fields.integer("committed"), fields.integer("spentCents")
    if spent != committed:
        fields.refuse("spentCents", f"the committed cents ({committed})", shown(spent))
    reserved = fields.integer("reserved")
    exact = {name: fields.micro(f"{name}Micro") for name in ("committed", "reserved")}
    for name, cents in (("committed", committed), ("reserved", reserved)):
        if cents != exact[name] // MICRO_PER_CENT:
            fields.refuse(name, f"the whole cents of {name}Micro ({exact[name]})", shown(cents))
    return BudgetReading(
        tenant, limit * MICRO_PER_CENT, exact["committed"], exact["reserved"], exact=True,
        period=fields.text("period", pattern=PERIOD),
    )  # fmt: skip


def _gateway(fields: Fields, tenant: str) -> BudgetReading:
    limit, spent = fields.integer("monthlyLimitCents"), fields.integer("currentSpendCents")
    # an overspent budget has a negative remainder, which I-1 reports
    left = fields.integer("remainingCents", minimum=-limit - spent)
    fields.number("percentUsed", minimum=0)
    if left != limit - spent:
        fields.refuse(
            "remainingCents", f"monthlyLimitCents - currentSpendCents ({limit - spent})", shown(left)
        )
    return BudgetReading(tenant, limit * MICRO_PER_CENT, spent * MICRO_PER_CENT, 0, exact=False)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A reading of the run: its check, and when it was requested and answered (monotonic seconds)."""

    reading: BudgetReading
    by: str
    sent: float
    ended: float

    @classmethod
    def of(cls, remembered: Mapping[str, Any]) -> Sighting:
        """A sighting from plain data."""
        return cls(**{**remembered, "reading": BudgetReading(**remembered["reading"])})


class LimitChanged(SetupError):
    """A limit changed, perhaps by an operator."""


def _require_limit(limits: Collection[int], journal: SpendJournal | None, broken: str) -> None:
    """Raise for a tenant with ``limits`` in this run; a single change may be an operator's.

    If the run has the platform to itself it cannot be, and traffic that moves a limit does so again.
    """
    if journal is None or not journal.quiet_s or len(limits) > 2:
        raise SafetyViolation(broken)
    raise LimitChanged(f"not examined: {broken}. If nobody changed it, traffic did: run again")


def require_steady(
    sightings: Sequence[Sighting], rule: str, evidence: Evidence, journal: SpendJournal | None = None
) -> None:
    """Compare I-3 or I-4 between all readings of a run, for every tenant; SafetyViolation names two of them.

    LimitChanged if I-4 is broken once, and by the ``journal`` the run may not be alone. One reading is later
    than another if it was requested after the other was answered. If committed and reserved are one figure,
    it may fall.
    """
    compared, begun = 0, min(each.sent for each in sightings)
    ended = sorted(sightings, key=lambda each: each.ended)
    known: dict[tuple[str, str], Sighting] = {}
    for later in sorted(sightings, key=lambda each: each.sent):
        while ended and ended[0].ended <= later.sent:
            earlier = ended.pop(0)
            of = earlier.reading.tenant, earlier.reading.period
            if of not in known or earlier.reading.committed > known[of].reading.committed:
                known[of] = earlier
        found = known.get((later.reading.tenant, later.reading.period))
        if found is None or (rule == I3 and not later.reading.exact):
            continue
        compared += 1
        name = "committed" if rule == I3 else "limit"
        before, now = (getattr(each.reading, name) for each in (found, later))
        broken = (
            f"{rule}: {later.reading.tenant}: {before} µUSD {found.sent - begun:.1f} s into the run (read by "
            f"{found.by}), {now} µUSD at {later.sent - begun:.1f} s (read by {later.by})"
        )
        if rule == I4 and now != before:
            of = later.reading.tenant, later.reading.period
            readings = [each.reading for each in sightings]
            _require_limit({one.limit for one in readings if (one.tenant, one.period) == of}, journal, broken)
        _hold(rule == I4 or now >= before, broken)
    evidence.evaluated(rule, compared)


class MonthChanged(SetupError):
    """The budget's period ended during the check: its figures cannot be compared."""


class OthersSpend(SetupError):
    """Somebody else uses the compared budget, so this run's effects cannot be seen."""


def require_alone(
    tenant: str, read: Callable[[], BudgetReading], journal: SpendJournal, quiet_s: float | None = None
) -> None:
    """OthersSpend if a tenant's money moves while this run calls nothing, for as long as the profile says.

    A move soon after the start may be a late effect of the run's own calls. While no other user was seen, the
    budget counts as the run's own.
    """
    seen = {entry["tenant"]: entry["what"] for entry in journal.once.remembered("others")}
    started, before = time.monotonic(), read() if tenant not in seen else None
    quiet_s = journal.quiet_s if quiet_s is None else quiet_s
    while before is not None and (passed := time.monotonic() - started) < quiet_s:
        wait(quiet_s / _LOOKS)
        now = read()
        more = max(now.committed - before.committed, now.reserved - before.reserved)
        if more > 0 and passed >= min(RELEASED_WITHIN_S, quiet_s / 2):
            seen[tenant] = f"{more} µUSD more {passed:.1f} s after the last call of this run"
            journal.once.remember("others", tenant=tenant, what=seen[tenant])
            break
        before = now
    if tenant in seen:
        raise OthersSpend(
            f"not examined: somebody else uses {tenant}, or it is charged without a call: {seen[tenant]}. "
            "Reserve tenants for the run"
        )


def require_own(
    tenant: str, read: Callable[[], BudgetReading], journal: SpendJournal, what: str = ""
) -> None:
    """OthersSpend if others may have moved a tenant's money, although no move is seen now.

    Somebody who calls rarely is not seen in a quiet time. But if others caused every excess that the run
    found, they came only between the quiet times: the more often, the less likely. Once that is almost
    impossible, the platform is blamed, from then on. ``what`` names a state that lasts, and counts once.
    """
    if not journal.quiet_s or tenant in {entry["tenant"] for entry in journal.once.remembered("blamed")}:
        return
    before = [entry for entry in journal.once.remembered("unexplained") if entry["tenant"] == tenant]
    if what and any(entry["what"] == what for entry in before):
        raise OthersSpend(f"not examined: {tenant} still has {what}, which others may have caused")
    number = len(before) + 1
    quiet_s = journal.quiet_s * number
    require_alone(tenant, read, journal, quiet_s)
    journal.once.remember("unexplained", tenant=tenant, quiet_s=quiet_s, what=what)
    watched = quiet_s + sum(entry["quiet_s"] for entry in before)
    readings = journal.once.remembered("reading")
    begun = [entry["sent"] for entry in readings if entry["reading"]["tenant"] == tenant]
    between = max(0.0, time.monotonic() - min(begun, default=math.inf) - watched)
    if (between / (between + watched)) ** number > CHANCE:
        raise OthersSpend(
            f"not examined: {tenant} was moved {number}× by more than this run's calls, and not once in "
            f"{watched:.0f} s without calls: by somebody who calls rarely, or by the platform. Reserve "
            "tenants for the run, or set [limits] quiet_s = 0 where it is alone"
        )
    journal.once.remember("blamed", tenant=tenant)


class Conservation:
    """Compares the budget of one tenant with its first reading, and counts the comparisons.

    ``read`` takes the next reading. A broken invariant is a SafetyViolation, proof at once.
    """

    def __init__(
        self,
        first: BudgetReading,
        read: Callable[[], BudgetReading],
        evidence: Evidence,
        journal: SpendJournal | None = None,
    ) -> None:
        self.first = self.last = first
        self._journal = journal
        self.read = read
        self.evidence = evidence
        self.observe(first)

    def observe(self, reading: BudgetReading, *, quiet: bool = True) -> BudgetReading:
        """Compare I-1 to I-4 for the next reading in time.

        ``quiet`` is False while calls are in progress. The gateway's single figure includes reservations,
        which may shrink legally: there I-3 is compared only between the first reading and quiet ones, up to a
        cent.
        """
        last, self.last = self.last, reading
        if reading.period != self.first.period:
            before = self.first.period
            raise MonthChanged(f"the budget period went from {before} to {reading.period}: run again")
        who = reading.tenant
        _hold(
            reading.committed + reading.reserved <= reading.limit,
            f"{I1}: {who}: {reading.committed} + {reading.reserved} µUSD of {reading.limit}",
        )
        _hold(min(reading.committed, reading.reserved, reading.limit) >= 0, f"{I2}: {who}: {reading}")
        earlier = last.committed if reading.exact else self.first.committed - reading.tolerance_per_call
        _hold(
            reading.committed >= earlier or not (reading.exact or quiet),
            f"{I3}: {who}: {earlier} µUSD, then {reading.committed}",
        )
        if reading.limit != self.first.limit:
            broken = f"{I4}: {who}: {self.first.limit} µUSD, then {reading.limit}"
            _require_limit(self._limits(reading), self._journal, broken)
        for rule in (I1, I2, I3, I4):
            self.evidence.evaluated(rule)
        return reading

    def observe_all(self, readings: Iterable[BudgetReading]) -> None:
        """Every reading of a series taken while calls were in progress, in order."""
        for reading in readings:
            self.observe(reading, quiet=False)

    def charged(self, costs: Sequence[int]) -> None:
        """Compare I-5 like ``follows``, and record the charges."""
        reading = self.follows(costs)
        observed = reading.committed - self.first.committed
        self.evidence.figure(f"charges of {reading.tenant}", observed, "µUSD", expected=sum(costs))

    def follows(self, costs: Sequence[int]) -> BudgetReading:
        """Compare I-5: the amount committed since the first reading is the sum of ``costs``, in µUSD.

        A missing charge gets a moment to arrive, an excess gets none. If reserved and committed are one
        figure, an excess may be reserved, and gets I-6's time.
        """
        tolerance = self.first.tolerance_per_call * max(1, len(costs))
        least, most = (self.first.committed + sum(costs) + each for each in (-tolerance, tolerance))
        started, pause = time.monotonic(), pauses(GRACE_EVERY_S)
        reading = self.observe(self.read())
        while reading.committed < least or (reading.committed > most and not reading.exact):
            held = reading.reserved > self.first.reserved or reading.committed > most
            if time.monotonic() - started >= (self._release_s if held else GRACE_S):
                break
            next(pause)
            reading = self.observe(self.read())
        observed = reading.committed - self.first.committed
        broken = f"{I5}: {reading.tenant}: {len(costs)} calls cost {sum(costs)} µUSD, {observed} were charged"
        if reading.exact:
            _hold(reading.committed >= least, broken)  # nobody else can cause that
        with self.unless_others(rarely=True):
            _hold(least <= reading.committed <= most, broken)
        self.evidence.evaluated(I5)
        return reading

    def released(self, reading: BudgetReading | None = None) -> BudgetReading:
        """Compare I-6: the reserved amount is back at its first level in time, from ``reading`` on."""
        started, pause = time.monotonic(), pauses(GRACE_EVERY_S)
        reading = reading or self.observe(self.read(), quiet=False)
        while reading.reserved > self.first.reserved and time.monotonic() - started < self._release_s:
            next(pause)
            reading = self.observe(self.read(), quiet=False)
        try:
            with self.unless_others(rarely=True):
                _hold(
                    reading.reserved <= self.first.reserved,
                    f"{I6}: {reading.tenant} had {self.first.reserved} µUSD reserved, now {reading.reserved}",
                )
        except AssertionError:
            if self._journal is not None:
                self._journal.hold()
            raise
        self.evidence.evaluated(I6)
        return reading

    def takes_room(self, meanwhile: Sequence[BudgetReading], cost: int, what: str) -> None:
        """Compare the room before with that during a call, ``what``: it is reserved or charged already (I-1).

        The call has ended and cost this many µUSD: it took that much, or what it took at first, all the time.
        A budget of whole cents does not show it, and one that lags shows it late. Calls of others that end
        make room.
        """
        taken, *later = [self.first.room - reading.room for reading in meanwhile]
        least = min(later, default=taken)
        self.evidence.figure("taken from the budget by an open call", taken, "µUSD")
        self.evidence.figure("taken after another call was left", least, "µUSD")
        if not self.first.exact:
            self.evidence.note("not examined: less than a cent, which this budget does not show")
        elif taken < 0:
            self.evidence.note(f"not examined: others' calls, which had reserved {-taken} µUSD more, ended")
        elif not taken and self.observe(self.read()).committed == self.first.committed:
            self.evidence.note("not examined: this budget shows a call only some time after its end")
        else:
            with self.unless_others():
                assert taken, f"{what} is open, but the budget shows nothing reserved or charged"
                assert least >= min(taken, cost), (
                    f"{what} took {taken} µUSD of the room, but only {least} after another was left"
                )

    def unchanged(self, what: str, rule: str = I8, *, reading: BudgetReading | None = None) -> None:
        """Compare I-8 (or I-7): since the first reading nothing was charged or left reserved by ``what``."""
        reading = self.observe(reading or self.read())
        released = 0 <= self.first.committed - reading.committed <= reading.tolerance_per_call
        with self.unless_others(rarely=True):
            _hold(
                released and reading.reserved <= self.first.reserved,
                f"{rule}: {what}: {reading.tenant} had {self.first.committed} µUSD committed and "
                f"{self.first.reserved} reserved, now {reading.committed} and {reading.reserved}",
            )
        self.evidence.evaluated(rule)

    @contextmanager
    def unless_others(self, *, rarely: bool = False) -> Iterator[None]:
        """Raise OthersSpend instead of the block's finding if others also move this budget.

        ``rarely``: also if they may have done so but are not seen now.
        """
        try:
            yield
        except AssertionError:
            if self._journal is not None:
                alone = require_own if rarely else require_alone
                alone(self.first.tenant, self.read, self._journal)
            raise

    def _limits(self, reading: BudgetReading) -> set[int]:
        """The limits that this tenant had in this period, if checks of the run saw one move."""
        found = {self.first.limit, reading.limit}
        if self._journal is not None:
            of = {"tenant": reading.tenant, "period": reading.period}
            self._journal.once.remember("limits", **of, limits=sorted(found))
            for entry in self._journal.once.remembered("limits"):
                found |= {*entry["limits"]} if of.items() <= entry.items() else set()
        return found

    @property
    def _release_s(self) -> float:
        """How long to wait for a release: I-6's time, unless a release in this run has exceeded it."""
        return GRACE_S if self._journal is not None and self._journal.holds else RELEASED_WITHIN_S


def _hold(holds: bool, broken: str) -> None:
    if not holds:
        raise SafetyViolation(broken)
