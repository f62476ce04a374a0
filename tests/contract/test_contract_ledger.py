"""The reference ledger conserves money over every history, and decides as the contract says."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smoke.contract.ledger import Account, Call, Ledger, LedgerError, Ruling

TENANTS = ("a", "b")
LIMIT = 100


class Histories(RuleBasedStateMachine):
    """Calls that begin, are answered, fail or are hung up on, over two tenants and few keys."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger({tenant: Account(LIMIT) for tenant in TENANTS})
        self.held: dict[Call, int] = {}
        self.paid = dict.fromkeys(TENANTS, 0)
        self.answered: dict[tuple[str, str], str] = {}

    @rule(
        tenant=st.sampled_from(TENANTS),
        key=st.sampled_from("kl"),
        body=st.sampled_from("xy"),
        price=st.integers(1, LIMIT + 1),
    )
    def begin(self, tenant: str, key: str, body: str, price: int) -> None:
        call = Call(tenant, key, body)
        rulings = self.ledger.rulings(call, price, price)
        if (tenant, key) in self.answered:
            expected = Ruling.REPLAY if self.answered[tenant, key] == body else Ruling.CONFLICT
            assert rulings == {expected}
            with pytest.raises(LedgerError):
                self.ledger.reserve(call, price)
            return
        if call in self.held:
            assert Ruling.REPLAY in rulings
            return
        fits = self.ledger.reserve(call, price)
        assert (Ruling.RUN if fits else Ruling.OVER_BUDGET) in rulings
        assert fits == (self.paid[tenant] + self.reserved(tenant) + price <= LIMIT)
        if fits:
            self.held[call] = price

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.held, key=str)))
        held = self.held.pop(call)
        how = data.draw(st.sampled_from(["answered", "failed", "hung up"]))
        cost = 0 if how == "failed" else data.draw(st.integers(1, held))
        if how == "answered" and (call.tenant, call.key) not in self.answered:
            self.ledger.charge(call, cost, f"{call} for {cost}")
            self.answered[call.tenant, call.key] = call.body
            assert self.ledger.answer(call.tenant, call.key) == f"{call} for {cost}"
        else:
            self.ledger.release(call, cost)
        self.paid[call.tenant] += cost

    def reserved(self, tenant: str) -> int:
        return sum(amount for call, amount in self.held.items() if call.tenant == tenant)

    @invariant()
    def conserves(self) -> None:
        for tenant, account in self.ledger.accounts.items():
            assert account.limit == LIMIT
            assert account.committed == self.paid[tenant]
            assert account.reserved == self.reserved(tenant)
            assert 0 <= account.committed + account.reserved <= account.limit


TestHistories = Histories.TestCase


def test_a_budget_is_spent_to_its_last_unit() -> None:
    ledger, call = Ledger({"a": Account(10)}), Call("a", "k", "x")
    assert ledger.rulings(call, 10, 10) == {Ruling.RUN}
    assert ledger.rulings(call, 11, 11) == {Ruling.OVER_BUDGET}
    assert ledger.rulings(call, 9, 11) == {Ruling.RUN, Ruling.OVER_BUDGET}
    assert ledger.reserve(call, 10)
    ledger.charge(call, 10, "answer")
    assert ledger.rulings(Call("a", "l", "x"), 1, 1) == {Ruling.OVER_BUDGET}


def test_a_replay_is_looked_up_before_the_budget() -> None:
    ledger, call = Ledger({"a": Account(10), "b": Account(10)}), Call("a", "k", "x")
    assert ledger.reserve(call, 10)
    ledger.charge(call, 10, "answer")
    assert ledger.rulings(call, 10, 10) == {Ruling.REPLAY}
    assert ledger.rulings(Call("a", "k", "y"), 10, 10) == {Ruling.CONFLICT}
    elsewhere = ledger.rulings(Call("a", "k", "x", "stream"), 10, 10)
    assert elsewhere == {Ruling.REPLAY, Ruling.CONFLICT}, "a key can also belong to a route"
    assert ledger.rulings(Call("a", "k", "y", "stream"), 10, 10) == {Ruling.CONFLICT}
    assert ledger.rulings(Call("b", "k", "y"), 10, 10) == {Ruling.RUN}, "another tenant's key is another key"


def test_what_is_under_way_may_return_or_be_answered_first() -> None:
    ledger = Ledger({"a": Account(10)})
    assert ledger.reserve(Call("a", "k", "x"), 10)
    assert ledger.rulings(Call("a", "k", "x"), 1, 1) == {Ruling.RUN, Ruling.REPLAY, Ruling.OVER_BUDGET}
    assert ledger.rulings(Call("a", "k", "y"), 1, 1) == {Ruling.RUN, Ruling.CONFLICT, Ruling.OVER_BUDGET}
    ledger.release(Call("a", "k", "x"))
    assert ledger.rulings(Call("a", "k", "y"), 1, 1) == {Ruling.RUN}


@pytest.mark.parametrize("cost", [0, -1, 11])
def test_a_charge_is_positive_and_fits(cost: int) -> None:
    ledger, call = Ledger({"a": Account(10)}), Call("a", "k", "x")
    assert ledger.reserve(call, 5)
    with pytest.raises(LedgerError):
        ledger.charge(call, cost, "answer")
    with pytest.raises(LedgerError):
        ledger.charge(Call("a", "other", "x"), 1, "answer")


def test_where_only_cents_are_served_the_last_cent_may_be_spent_already() -> None:
    ledger, call = Ledger({"a": Account(30_000, 20_000, blur=10_000)}), Call("a", "k", "x")
    assert ledger.rulings(call, 1, 1) == {Ruling.RUN, Ruling.OVER_BUDGET}
