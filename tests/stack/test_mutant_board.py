"""Mutants in a running platform: one service runs changed code until cleared, and no file changes."""

import re
from pathlib import Path
from urllib.parse import quote

from stack.launch import Stack
from stack.mutants.catalogue import RECORDED_OF_TREE, mutants, records, tree_mutants
from tests.stack.embedded import Platform
from tests.stack.tools import Aws, request


def mutant(module: str, operator: str, before: str, function: str = "") -> str:
    """Return the id of the mutant that changes this text, in this function where one is given."""
    return next(
        each.id
        for each in mutants().values()
        if (each.module, each.edit.operator) == (module, operator)
        and before in each.edit.before
        and function in each.edit.function
    )


def test_a_mutant_is_in_one_service_until_the_reset(platform: Platform) -> None:
    query = mutant("dixie.app", "string", '"score"', "query")
    listed = {each["id"]: each for each in platform.control("GET", "/mutants")["mutants"]}
    assert (listed[query]["file"], listed[query]["services"]) == ("stack/dixie/app.py", ["dixie"])
    source = Path("stack/dixie/app.py").read_text("utf-8")
    url = f"{platform.dixie}/api/reputation/query?routingKey=nft:nobody"

    def scores() -> list[str]:
        found = platform.http.get(url, headers=platform.user(aud="loa-dixie"))
        return list(found.raise_for_status().json())

    before, others = platform.stack.pids["dixie"], platform.stack.pids["finn"]
    assert platform.control("PUT", f"/mutants/{query}", {"service": "dixie"})["runs"]
    assert platform.stack.pids["dixie"] != before
    assert platform.stack.pids["finn"] == others
    assert scores() == ["scorex"]
    platform.control("POST", "/services/dixie/restart")  # as a drill does
    assert scores() == ["scorex"]
    platform.control("POST", "/reset")
    assert scores() == ["score"]
    assert Path("stack/dixie/app.py").read_text("utf-8") == source


def test_the_next_mutant_replaces_the_one_before(platform: Platform) -> None:
    health = mutant("dixie.app", "string", '"version"')
    platform.control("PUT", f"/mutants/{health}", {"service": "dixie"})
    assert "versionx" in platform.http.get(f"{platform.dixie}/api/health").json()
    finn = mutant("finn.app", "string", '"uptime"')
    platform.control("PUT", f"/mutants/{finn}", {"service": "finn"})
    assert "uptimex" in platform.http.get(f"{platform.finn}/health").json()
    assert "version" in platform.http.get(f"{platform.dixie}/api/health").json()
    platform.control("DELETE", "/mutants")
    assert "uptime" in platform.http.get(f"{platform.finn}/health").json()


def test_one_that_does_not_start_is_reported(platform: Platform) -> None:
    route = mutant("dixie.app", "string", '"/api/health"')
    answer = platform.control("PUT", f"/mutants/{route}", {"service": "dixie"})
    assert not answer["runs"]
    assert "dixie" in answer["message"]
    platform.control("POST", "/reset")
    assert platform.http.get(f"{platform.dixie}/api/health").json()["status"] == "healthy"


def test_an_unknown_mutant_or_service_is_refused(platform: Platform) -> None:
    known = mutant("dixie.app", "string", '"version"')
    for name, service in (("no:such:one:1", "dixie"), (known, "finn"), (known, "")):
        url = f"{platform.stack.control_url}/mutants/{name}"
        status, answer = request("PUT", url, {"service": service})
        assert (status, answer["error"]) == (409, "NOT_DONE")


def test_lines_that_run_are_noted_by_number(platform: Platform) -> None:
    platform.control("POST", "/trace")
    platform.control("PUT", "/trace/1")
    platform.http.get(f"{platform.dixie}/api/health").raise_for_status()
    platform.control("PUT", "/trace/2")
    assert platform.invoke("hello").status_code == 200
    lines = platform.control("DELETE", "/trace")["lines"]
    assert set(lines) == {"freeside", "worker", "finn", "dixie", "provider"}

    def numbers(service: str, file: str) -> set[int]:
        return {number for each in lines[service].get(file, {}).values() for number in each}

    assert 1 in numbers("dixie", "stack/dixie/app.py")
    assert 2 not in numbers("dixie", "stack/dixie/app.py")
    assert numbers("freeside", "stack/freeside/calls.py") - {0} == {2}, "nothing in it runs by itself"
    assert not numbers("freeside", "stack/finn/app.py")


def test_a_mutant_of_the_repository_is_there_until_the_reset(platform: Platform) -> None:
    change = next(each for each in tree_mutants().values() if each.operator == "count-zero")
    path = Path(platform.stack.profile["source"]["iac_dir"]) / change.file
    before = path.read_text("utf-8")
    assert platform.control("PUT", f"/mutants/{quote(change.id, safe='')}", {"service": ""})["runs"]
    assert path.read_text("utf-8") == change.text != before
    platform.control("POST", "/reset")
    assert path.read_text("utf-8") == before


def test_a_mutant_of_aws_is_there_until_the_reset(platform: Platform, aws: Aws) -> None:
    listed = {each["id"]: each for each in platform.control("GET", "/mutants")["mutants"]}
    assert len([name for name in listed if name.startswith("aws:")]) > 500
    threshold = "aws:cloudwatch._alarms:arrakis-staging-api-cpu-high:Threshold:value-changed:1"
    assert (listed[threshold]["before"], listed[threshold]["after"]) == ("80.0", "81.0")
    dropped = "aws:cloudwatch._alarms:arrakis-staging-api-cpu-high::record-dropped:1"

    def thresholds() -> list[float]:
        names = ["arrakis-staging-api-cpu-high"]
        return [
            each["Threshold"] for each in aws("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]
        ]

    for name, seen in ((threshold, [81.0]), (dropped, [])):
        assert platform.control("PUT", f"/mutants/{quote(name, safe='')}", {"service": ""})["runs"]
        assert thresholds() == seen
    platform.control("POST", "/reset")
    assert thresholds() == [80.0]
    url = f"{platform.stack.control_url}/mutants/aws:no-such"
    assert request("PUT", url, {"service": ""})[0] == 409


def test_every_family_of_aws_has_a_mutant(platform: Platform) -> None:
    listed = [
        each for each in platform.control("GET", "/mutants")["mutants"] if each["id"].startswith("aws:")
    ]
    changes = {each["id"]: f"{each['before']} => {each['after']}" for each in listed}
    families = [each for each in records(RECORDED_OF_TREE) if each.id.startswith("aws:")]
    assert families
    assert not [each.id for each in families if not any(map(each.fits, changes, changes.values()))]


def test_the_mutants_of_aws_have_the_same_ids_at_each_boot(platform: Platform) -> None:
    names = [each["id"] for each in platform.control("GET", "/mutants")["mutants"]]
    assert len(names) == len(set(names))
    made_up = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}|-[0-9a-f]{17}|srv-|\b(?=[a-z]*\d)[0-9a-z]{16}\b")
    assert not [name for name in names if name.startswith("aws:") and made_up.search(name)]


def test_the_mutants_of_aws_are_the_same_at_each_boot(platform: Platform) -> None:
    """Results about a mutant are kept for the next run, which has a new platform."""
    with Stack.start() as other:
        others = request("GET", f"{other.control_url}/mutants")[1]["mutants"]
    listed = platform.control("GET", "/mutants")["mutants"]
    assert len(listed) == len(others)
    assert not [(one, two) for one, two in zip(listed, others, strict=True) if one != two]
