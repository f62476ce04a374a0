"""Checks and conftests that try every way to leak the secret in ``V``."""

from __future__ import annotations

V = 'V = os.environ["SCENARIO_TOKEN"]\n'
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzbW9rZSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"


def check(body: str, *fixtures: str, marks: str = "", before: str = "") -> str:
    """Return the source of one P1 check; its body is one line, or lines with their own indentation."""
    names = ", ".join((*fixtures, "evidence"))
    return f"{before}\n@pytest.mark.p1\n{marks}\ndef test_x({names}):\n    passing(evidence)\n    {body}\n"


def named(ids: str, value: str = "1", body: str = "pass") -> str:
    """Return the source of a check with a parameter."""
    return check(body, "n", marks=f'@pytest.mark.parametrize("n", [{value}]{ids})')


FIELDS = {
    "own-id": named(", ids=[V]"),
    "made-id": named("", "V", "assert not n"),
    "param-id": named("", "pytest.param(1, id=V)", "assert 0"),
    "id-function": named(", ids=lambda n: 'x-' + V", "{1: 2}", "assert 0"),
    "bytes-id": named("", "V.encode()", "assert 0"),
    "jwt-id": named("", f"'{JWT}'", "assert not n, n + '\\n' + n"),
    "fixture-id": check("pass", "f", before="@pytest.fixture(params=[V])\ndef f(request): return 1"),
    "xfail-reason": check("assert 0", marks="@pytest.mark.xfail(reason=V, strict=False)"),
    "xfail-call": check("pytest.xfail(V)"),
    "strict-xfail": check("pass", marks="@pytest.mark.xfail(reason=V, strict=True)"),
    "skip": check("pass", marks="@pytest.mark.skip(reason=V)"),
    "covered": check("pass", marks="@pytest.mark.covered_by(V)"),
    "property": check("record_property('note', V); record_property(V, [V])", "record_property"),
    "property-object": check(
        "record_property('note', type('T', (), {'__str__': lambda self: V})())", "record_property"
    ),
    "suite-property": check(
        "record_testsuite_property('note', V); record_testsuite_property(V, [V])", "record_testsuite_property"
    ),
    "xml-attribute": check("record_xml_attribute('note', V)", "record_xml_attribute"),
    "extras": check("import pytest_html; extras.append(pytest_html.extras.text(V))", "extras"),
    "subtest": check("with subtests.test(V, value=V): print(V); assert 0", "subtests"),
    "subtest-passed": check("with subtests.test(msg=V, deep=[V]): print(V)", "subtests"),
    "fail": check("pytest.fail(V, pytrace=False)"),
    "assertion": check("assert V == 'other'"),
    "assertion-dict": check("assert {'a': V} == {'a': 1, 'b': [V]}"),
    "assertion-end": check("assert V == V[:-2] + 'xy'"),
    "assertion-start": check("assert V == 'xy' + V[2:]"),
    "assertion-lines": check("assert f'a\\n{V}\\nb' == 'a\\nb'"),
    "exception": check("raise ConnectionError(f'refused {V}')"),
    "note": check("e = ValueError('x'); e.add_note(V); raise e"),
    "chain": check("try: int(V)\n    except ValueError as e: raise KeyError('y') from e"),
    "group": check("raise ExceptionGroup(V, [ValueError(V)])"),
    "system-exit": check("raise SystemExit(V)"),
    "setup": check("pass", "f", before="@pytest.fixture\ndef f(): raise RuntimeError(V)"),
    "teardown": check("pass", "f", before="@pytest.fixture\ndef f():\n    yield\n    raise RuntimeError(V)"),
    "output": check("import sys; print(V); print(V, file=sys.stderr); assert 0"),
    "log": check("import logging; logging.getLogger('x').warning('sent %s', V); assert 0"),
    "warning": check("import warnings; warnings.warn('old ' + V)"),
    "thread": check("t = threading.Thread(target=lambda: int(V)); t.start(); t.join()"),
    "evidence": check("evidence.note(V); evidence.figure(V, V, expected={V: [V]}); evidence.evaluated(V)"),
}
#: These end a run before others have run.
ALONE = {
    "skip-module": "pytest.skip(V, allow_module_level=True)",
    "module": "raise RuntimeError(V)",
    "module-output": "print(V)\nraise RuntimeError('x')",
    "import": "import importlib; importlib.import_module(V)",
    "goal": check("pass", marks="@pytest.mark.goal(V)"),
    "exit": check("pytest.exit(V)"),
    "exit-0": check("pytest.exit(reason=V, returncode=0)"),
    "interrupt": check("raise KeyboardInterrupt(V)"),
}
FAILS = check(
    "print(f); import logging; logging.error(f); assert [f] == [f[:-1]]",
    "f",
    before="@pytest.fixture\ndef f(): return V",
)
CONFTESTS = {
    "import": "raise RuntimeError(V)",
    "printed": "print(V)\nraise RuntimeError('x')",
    "exit": "import pytest; pytest.exit(V)",
    "usage": "import pytest\ndef pytest_configure(config): raise pytest.UsageError(V)",
    "configure": "def pytest_configure(config): raise RuntimeError(V)",
    "header": "def pytest_report_header(config): return V",
    "session-start": "def pytest_sessionstart(session): raise RuntimeError(V)",
    "session-finish": "def pytest_sessionfinish(session): raise RuntimeError(V)",
    "environment": "def pytest_readiness_environment(name, profile, config): raise RuntimeError(V)",
    "build": "def pytest_readiness_build_identity(environment, config): raise RuntimeError(V)",
    "collection": "def pytest_collection_modifyitems(items): raise RuntimeError(V)",
    "report": "def pytest_runtest_logreport(report): raise RuntimeError(V)",
    "setup": "def pytest_runtest_setup(item): raise RuntimeError(V)",
    "exit-in-setup": "import pytest\ndef pytest_runtest_setup(item): pytest.exit(V, returncode=9)",
    "interrupt": "def pytest_runtest_setup(item): raise KeyboardInterrupt(V)",
    "summary": "def pytest_terminal_summary(terminalreporter): terminalreporter.write_line(V)",
    "pieces": "def pytest_terminal_summary(terminalreporter):\n    for c in V: terminalreporter.write(c)",
    "bytes": "import sys\ndef pytest_unconfigure(): sys.stdout.buffer.write(V.encode() + b'\\n')",
    "handler": "import logging\ndef pytest_unconfigure(): logging.warning(V)",
    "warning": "import warnings\nwarnings.warn(V)",
}
