"""Small repositories in different styles, each with its expected findings."""

import tomllib
from pathlib import Path

import pytest

from smoke.source.checkout import Examined
from smoke.source.pipeline.deploys import Pipeline
from smoke.source.pipeline.gate import examine, undeployed
from smoke.source.pipeline.repository import Repository
from smoke.source.pipeline.rollout import smoke_keys

HERE = Path(__file__).parent / "repositories"
FACTS = tomllib.loads((Path(__file__).parents[3] / "readiness.toml").read_text("utf-8"))["facts"]["pipeline"]
SERVICES = {"api": ["freeside"], "worker": [], "finn": [], "dixie": []}


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.iterdir()))
def test_a_repository_is_judged_as_expected(name: str) -> None:
    root = HERE / name
    expected = tomllib.loads((root / "expected.toml").read_text("utf-8"))
    files = {
        str(path.relative_to(root)): path.read_text("utf-8") for path in root.rglob("*") if path.is_file()
    }
    repository, plan = Repository.read(list(files), files.get), Pipeline.of(FACTS)
    gate = examine(repository, plan)
    services = undeployed(repository, plan, SERVICES)[0]
    keys = smoke_keys(repository, FACTS["smoke_commands"], FACTS["smoke_keys"])[0]

    assert _begin(gate.bypass, expected.get("bypass", []))
    assert _begin(gate.void, expected.get("void", []))
    assert _begin(keys, expected.get("keys", []))
    assert [each.what for each in services.findings] == [
        f"no job deploys {service}" for service in expected.get("services", [])
    ]
    unread = [str(each) for part in (gate.bypass, gate.void, services, keys) for each in part.not_examined]
    wanted = expected.get("not_examined", [])
    assert all(any(part in each for part in wanted) for each in unread), unread
    assert all(any(part in each for each in unread) for part in wanted), unread


def test_without_any_workflow_nothing_passes() -> None:
    repository, plan = Repository.read([], lambda path: None), Pipeline.of(FACTS)
    gate = examine(repository, plan)
    services = undeployed(repository, plan, SERVICES)[0]
    keys = smoke_keys(repository, FACTS["smoke_commands"], FACTS["smoke_keys"])[0]
    for part in (gate.bypass, gate.void, services, keys):
        assert (part.findings, bool(part.not_examined)) == ([], True)


def _begin(found: Examined, places: list[str]) -> bool:
    """Whether exactly these places are found."""
    said = sorted(map(str, set(found.findings)))
    assert len(said) == len(places), said
    return all(each.startswith(place) for each, place in zip(said, sorted(places), strict=True))
