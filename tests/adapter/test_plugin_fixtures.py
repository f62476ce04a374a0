"""The fixtures that a suite uses."""

from tests.adapter.scenario import Suite


def test_eventually_records_how_long_it_took(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    def test_comes(eventually):
        answers = iter(["", 0, "here"])
        assert eventually(lambda: next(answers), within=5, every=0.01, what="the score") == "here"

    @pytest.mark.p0
    def test_comes_at_the_last_look(eventually):
        started = time.monotonic()
        eventually(lambda: time.monotonic() - started >= 0.3, within=0.3, every=0.2, what="the score")

    @pytest.mark.p1
    def test_never_comes(eventually):
        eventually(lambda: [], within=0.05, every=0.01, what="the score")
    """)
    run = suite.run()
    assert run.code == 2, run.output()
    (entry,) = run.check("health/comes")["evidence"]
    assert (entry["kind"], entry["name"], entry["unit"], entry["limit"]) == (
        "figure",
        "the score after",
        "s",
        5,
    )
    assert 0.005 < entry["value"] < 5
    missed = run.check("health/never-comes")
    assert missed["summary"] == "the score: not within 0.05 s; last value: []"
    assert missed["evidence"][0]["name"] == "the score not after"


def test_a_fast_effect_is_seen_before_the_longest_pause(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    def test_comes(eventually):
        answers = iter(["", "", "here"])
        eventually(lambda: next(answers), within=30, every=10, what="the score")
    """)
    (entry,) = suite.run().check("health/comes")["evidence"]
    assert entry["value"] < 5


def test_facts_of_the_plan(suite: Suite) -> None:
    suite.plan("[facts.connections]\ntotal = 85\n")
    suite.checks("""
    @pytest.mark.p0
    def test_budget(plan_facts, evidence):
        evidence.figure("total", plan_facts["connections"]["total"])
        with pytest.raises(TypeError):
            plan_facts["connections"] = 1
    """)
    run = suite.run()
    assert (run.code, run.check("health/budget")["evidence"][0]["value"]) == (0, 85), run.output()


def test_inventory_of_the_plan(suite: Suite) -> None:
    suite.plan('[[inventory]]\nservice = "Shop"\nkey = "shop"\ncpu = 512\n')
    suite.checks("""
    @pytest.mark.p0
    def test_size(plan_inventory, evidence):
        (row,) = plan_inventory
        assert (row["service"], row["cpu"], row["memory"], row["ecs"]) == ("Shop", 512, 0, "")
        with pytest.raises(TypeError):
            row["cpu"] = 1
        evidence.figure("inventory/shop/cpu", 256, expected=512)
    """)
    run = suite.run()
    assert run.code == 0, run.output()
    assert run.model["inventory"][0]["observed"] == {"cpu": 256}


def test_figures_of_any_type_travel(suite: Suite) -> None:
    suite.checks("""
    import decimal, enum, datetime

    class Kind(str, enum.Enum):
        ODD = "odd"

    @pytest.mark.p0
    def test_types(evidence):
        odd = {Kind.ODD: (1, decimal.Decimal("2.5"))}
        evidence.figure("kind", Kind.ODD, expected=odd, limit=float("inf"))
        evidence.evaluated("rule", times=3)
        evidence.note(pathlib.Path("x"))
    """)
    run = suite.run("-n2")
    assert run.code == 0, run.output()
    figure, evaluated, note = run.check("health/types")["evidence"]
    assert figure["expected"] == {"Kind.ODD": [1, "2.5"]}
    assert figure["limit"] == "inf"
    assert evaluated == {"kind": "evaluated", "rule": "rule", "times": 3}
    assert note == {"kind": "note", "text": "x"}


def test_real_httpx_responses(suite: Suite) -> None:
    suite.checks("""
    import httpx
    from types import SimpleNamespace

    def answer(request):
        if request.url.path == "/stream":
            return httpx.Response(200, content=iter([b"not read"]))
        return httpx.Response(429, headers={"Retry-After": "2", "Set-Cookie": "s"}, json={"error": "slow"})

    @pytest.mark.p0
    def test_exchange(evidence):
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            evidence.exchange(client.post("http://host/x", json={"prompt": "hi"}))
            with client.stream("GET", "http://host/stream") as response:
                evidence.exchange(response)
        prepared = SimpleNamespace(method="PUT", url="http://host/y", headers={}, body="as requests has it")
        evidence.exchange(SimpleNamespace(request=prepared, status_code=200, headers={}, content=b"done"))
        prepared.body = iter([b"in pieces"])
        evidence.exchange(SimpleNamespace(request=prepared, status_code=200, headers={}, content=b"done"))
    """)
    run = suite.run()
    assert run.code == 0, run.output()
    post, stream, put, pieces = run.check("health/exchange")["evidence"]
    assert (pieces["request"]["body"], pieces["response"]["body"]) == ("", "done")
    assert (put["request"]["body"], put["response"]["body"]) == ("as requests has it", "done")
    assert (post["method"], post["url"], post["status"]) == ("POST", "http://host/x", 429)
    assert post["request"]["body"] == '{"prompt":"hi"}'
    assert post["response"]["headers"]["retry-after"] == "2"
    assert "set-cookie" not in post["response"]["headers"]
    assert (stream["method"], stream["response"]["body"]) == ("GET", "")


def test_hidden_values_stay_out(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    def test_rotates(evidence, environment):
        environment.hide("new key", "a-key-made-in-the-run")
        passing(evidence)
        evidence.note("made a-key-made-in-the-run")
        assert False, "a-key-made-in-the-run"
    """)
    run = suite.run("-n2")
    assert run.code == 1
    assert "a-key-made-in-the-run" not in run.out + suite.wrote("reports/readiness.json")


def test_fixtures_outside_the_suite(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    suite.write(
        "tests/test_other.py", "def test_other(evidence, environment): evidence.figure('x', environment.name)"
    )
    assert suite.run("smoke", "tests").code == 0


FROZEN = """
import datetime, sys, time

real = datetime.datetime

class Kind(type):
    def __instancecheck__(cls, value):
        return isinstance(value, real)

class Past(real, metaclass=Kind):
    @classmethod
    def now(cls, tz=None):
        return cls(2020, 1, 2, tzinfo=tz)

for name, module in list(sys.modules.items()):
    if name.startswith("pytest_readiness") and getattr(module, "datetime", None) is real:
        module.datetime = Past
stopped = time.monotonic()
time.monotonic = lambda: stopped
"""


def test_a_frozen_time_revives_no_waiver_and_stops_no_deadline(suite: Suite) -> None:
    suite.plan("""
    [[waiver]]
    check = "health/*"
    reason = "expired long ago"
    approver = "R. Ortega"
    issued = 2020-01-01T00:00:00Z
    expires = 2020-02-01T00:00:00Z
    """)
    suite.write("smoke/conftest.py", FROZEN)
    suite.checks("""
    @pytest.mark.p0
    @pytest.mark.timeout(30)
    def test_never_comes(eventually):
        eventually(lambda: [], within=0.05, every=0.01, what="the score")
    """)
    run = suite.run()
    assert run.code == 1, run.output()
    assert run.check("health/never-comes")["class"] == "PLATFORM_BUG"
    assert run.model["started_at"] > "2026"
    assert run.model["waivers"][0]["state"] == "expired"
