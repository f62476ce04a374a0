"""Phases run in the plan's order; workers share a run without changing what it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.adapter.checks import Check, in_order
from pytest_readiness.core.model import Severity

from tests.adapter.scenario import Suite


def _checks(suite: Suite, file: str, *names: str) -> None:
    body = """
def ran(name):
    with open(pathlib.Path(os.environ["SCENARIO_ROOT"], "ran"), "a") as stream:
        stream.write(name + "\\n")
"""
    for name in names:
        body += f"""
@pytest.mark.p0
@pytest.mark.phase("{name.split("-")[0]}")
def test_{name.replace("-", "_")}(evidence):
    passing(evidence)
    ran("{name}")
"""
    suite.checks(body, f"smoke/{file}")


def _spread(suite: Suite) -> None:
    """Files whose alphabetical order differs from the phases' order; one has checks of all phases."""
    _checks(suite, "test_a.py", "late-a1", "late-a2", "late-a3", "late-a4")
    _checks(suite, "test_b.py", "work-b1", "health-b1", "late-b1")
    _checks(suite, "test_c.py", "work-c1", "work-c2", "work-c3")
    _checks(suite, "test_d.py", "health-d1", "health-d2", "work-d1")


@pytest.mark.parametrize("sorting", ["", "key=lambda item: item.name", "reverse=True"])
def test_phases_keep_their_order_whatever_other_plugins_sort_by(suite: Suite, sorting: str) -> None:
    _spread(suite)
    hook = f"def pytest_collection_modifyitems(items): items.sort({sorting})" if sorting else ""
    suite.write("smoke/conftest.py", hook.replace("sort(reverse=True)", "reverse()"))
    run = suite.run()
    assert run.code == 0, run.output()
    ran = suite.wrote("ran").split()
    assert ran == [name.partition("/")[2] for name in run.outcomes()]
    assert [name.split("-")[0] for name in ran] == ["health"] * 3 + ["work"] * 5 + ["late"] * 5


@pytest.mark.parametrize(
    "args",
    [
        ("-n2",),
        ("-n3", "--dist", "load"),
        ("-n2", "--dist", "worksteal"),
        ("-n2", "--dist=loadscope"),
        ("-n2", "--dist", "loadgroup"),
    ],
    ids=lambda args: "-".join(args).replace("--dist", ""),
)
def test_workers_say_what_one_process_says(suite: Suite, args: tuple[str, ...]) -> None:
    _spread(suite)
    suite.checks(
        """
        @pytest.mark.p0
        @pytest.mark.establishes("api")
        def test_down(evidence): evidence.figure("up", 0); raise ExternalOutage("gone")
        """,
        "smoke/test_e.py",
    )
    suite.checks(
        """
        @pytest.mark.p0
        @pytest.mark.requires("api")
        @pytest.mark.establishes("more")
        def test_call(evidence): passing(evidence)

        @pytest.mark.p1
        @pytest.mark.phase("late")
        @pytest.mark.requires("more")
        def test_more(evidence): pytest.skip("nothing to do")

        @pytest.mark.p0
        @pytest.mark.requires("api")
        def test_harm(evidence): raise SafetyViolation("it was charged")
        """,
        "smoke/test_f.py",
        phase="work",
    )
    alone = suite.run().outcomes()
    shared = suite.run(*args)
    assert {name for name, outcome in alone.items() if outcome == "not-run"} == {
        *("work/call", "work/harm", "late/more")
    }
    if shared.outcomes() != alone:  # a violation counts if a worker met it before the outage was known
        alone["work/harm"] = "failed"
    assert shared.outcomes() == alone
    assert list(shared.outcomes()) == list(alone)
    assert shared.model["scope"] == "full"
    assert "api is down (health/down: ExternalOutage: gone)" in shared.check("work/call")["summary"]


def test_checks_that_others_require_run_first(suite: Suite) -> None:
    """A gate of a later phase is asked before the first check that requires it, and asked once."""
    _spread(suite)
    suite.checks(
        """
        @pytest.mark.p0
        @pytest.mark.phase("late")
        @pytest.mark.requires("base")
        @pytest.mark.establishes("gate")
        def test_gate(evidence): evidence.figure("open", 0); assert False, "closed"

        @pytest.mark.p0
        @pytest.mark.phase("late")
        @pytest.mark.establishes("base")
        def test_base(evidence): passing(evidence)

        @pytest.mark.p0
        @pytest.mark.phase("work")
        @pytest.mark.requires("gate")
        def test_behind(evidence): raise SafetyViolation("it ran")
        """,
        "smoke/test_e.py",
    )
    run = suite.run()
    assert [name for name in run.outcomes() if name.endswith(("gate", "base", "behind"))] == [
        *("late/base", "late/gate", "work/behind")
    ]
    assert run.outcomes()["work/behind"] == "not-run"
    assert [one["check"] for one in run.model["blockers"]] == ["late/gate"]


@given(st.lists(st.tuples(*[st.frozensets(st.sampled_from("abc"), max_size=2)] * 2), min_size=1, max_size=8))
def test_order_keeps_every_check_and_puts_foundations_first(marks: list[tuple[frozenset[str], ...]]) -> None:
    checks = [
        Check(
            id=str(number), nodeid=str(number), goal="", phase="", severity=Severity.P0,
            requires=tuple(sorted(needs)), establishes=tuple(sorted(gives - needs)),
        )
        for number, (needs, gives) in enumerate(marks)
    ]  # fmt: skip
    ordered = in_order(checks, ("",))
    assert sorted(ordered, key=lambda check: int(check.id)) == checks
    gives = {name for check in checks for name in check.establishes}
    if not any(check.establishes and set(check.requires) & gives for check in checks):  # no chain, no circle
        for place, check in enumerate(ordered):
            assert not any(set(check.requires) & set(later.establishes) for later in ordered[place + 1 :])


def test_the_order_adds_no_keyword(suite: Suite) -> None:
    _checks(suite, "test_a.py", "health-order", "health-other")
    assert list(suite.run("-k", "order").outcomes()) == ["health/health-order"]


def test_dist_each_is_refused(suite: Suite) -> None:
    _spread(suite)
    run = suite.run("-n2", "--dist", "each")
    assert run.code == 4, run.output()
    assert "allowed: loadfile" in run.err + run.out


def test_a_crash_costs_one_check(suite: Suite) -> None:
    _spread(suite)
    suite.checks("@pytest.mark.p0\ndef test_crash(): os._exit(1)", "smoke/test_e.py", phase="health")
    run = suite.run("-n2")
    assert run.code == 6, run.output()
    assert [name for name, outcome in run.outcomes().items() if outcome != "passed"] == ["health/crash"]
    assert run.outcomes()["health/crash"] == "not-run"
    assert len(suite.wrote("ran").split()) == 13, "what the worker had left is run, and nothing twice"


def test_a_worker_that_died_is_sent_no_work(suite: Suite) -> None:
    """The controller notices the death only when it sends: the pipe breaks before it reads the event."""
    _spread(suite)
    suite.write(
        "smoke/conftest.py",
        """
        import os, pathlib, signal

        SENT = {"gw0": 0, "gw1": 0}
        ROOT = pathlib.Path(os.environ["SCENARIO_ROOT"])

        def pytest_sessionstart(session):
            if hasattr(session.config, "workerinput"):
                (ROOT / f"pid-{session.config.workerinput['workerid']}").write_text(str(os.getpid()))

        def pytest_configure_node(node):
            send = node.sendcommand

            def after_its_death(name, **given):
                worker = node.gateway.id
                SENT[worker] = SENT.get(worker, 0) + (name == "runtests")
                if SENT[worker] == 2 and worker == "gw0":
                    pid = int((ROOT / "pid-gw0").read_text())
                    os.kill(pid, signal.SIGKILL)
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and left for its parent to reap
                return send(name, **given)

            node.sendcommand = after_its_death
        """,
    )
    run = suite.run("-n2")
    assert "INTERNALERROR" not in run.out + run.err
    assert run.code == 6, run.output()
    assert [outcome for outcome in run.outcomes().values() if outcome != "passed"] == ["not-run"]


def test_all_workers_share_one_run_id(suite: Suite) -> None:
    for file in ("test_a.py", "test_b.py"):
        suite.checks(
            "@pytest.mark.p0\ndef test_id_" + file[5] + "(evidence, run_id): evidence.figure('id', run_id)",
            f"smoke/{file}",
        )
    run = suite.run("-n2")
    ids = {check["evidence"][0]["value"] for check in run.model["checks"]}
    assert ids == {run.model["run_id"]}, run.output()
