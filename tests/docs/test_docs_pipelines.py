"""The pipelines of the documentation run: their steps in order, on examples/shop, from the built wheel."""

import importlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.docs.pages import DOCS, blocks, terminal
from tests.installed import ROOT, pins, tracked, virtual_environment, wheel
from tests.s3 import serving_s3

PAGE = DOCS / "how-to" / "pipelines.md"
BUCKET = "launch-ledgers"
SHOP: Any = importlib.import_module("examples.shop.shop")
KEYS = {"SHOP_KEY": "key-of-ada", "SHOP_OTHER_KEY": "key-of-bob"}


def pipeline(having: str) -> Any:
    """The only YAML block of the page that holds this text."""
    (text,) = (block.text for block in blocks(PAGE) if block.language == "yaml" and having in block.text)
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A CI runner: the programs that `pip install` brings, the shop, a bucket."""
    place = tmp_path_factory.mktemp("pipelines")
    programs = virtual_environment(place / "venv", f"{wheel(place)}[aws]", constraints=pins())
    with ExitStack() as stack:
        shop = stack.enter_context(
            SHOP.serving(SHOP.Shop(dict(zip(KEYS.values(), ("ada", "bob"), strict=True))))
        )
        s3 = place / "s3"
        s3.mkdir()
        url = stack.enter_context(serving_s3(s3))
        access = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        session = boto3.Session("test", "test", region_name="us-east-1")
        session.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
        yield {
            **access,
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(place),
            "PIP_NO_INDEX": "1",
            "SHOP_URL": shop,
        }


class StepFailed(Exception):
    """The first step of a job that failed: its script, what it printed, its exit code."""


@dataclass
class Runner:
    """Runs jobs, each in its own checkout; keeps artifacts and caches between them."""

    home: Path
    environ: Mapping[str, str]
    url: str = ""
    run_id: int = 0
    checkout: Path = field(init=False)
    installed: set[str] = field(default_factory=set)

    def job(self, steps: list[Any], matrix: Mapping[str, Any] | None = None) -> None:
        """Run the steps of a job until one fails; those with ``if: always()`` run in any case."""
        self.run_id += 1
        self.checkout = self.home / f"run-{self.run_id}"
        for path in tracked("examples/shop"):
            copy = self.checkout / path.relative_to("examples/shop")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy)
        if self.url:
            plan = self.checkout / "readiness.toml"
            plan.write_text(plan.read_text("utf-8") + f'\n[ledger]\nurl = "{self.url}"\n', "utf-8")
        context = {
            **{f"secrets.{name}": value for name, value in KEYS.items()},
            **{f"matrix.{name}": str(value) for name, value in (matrix or {}).items()},
            "github.run_id": "4711",
            "github.run_attempt": str(self.run_id),
        }
        failed: list[str] = []
        for step in steps:
            step = _filled(step, context)
            if failed and step.get("if") != "always()":
                continue
            problem = self._uses(step) if "uses" in step else self._run(step["run"], step.get("env", {}))
            if problem and not step.get("continue-on-error"):
                failed.append(problem)
        if failed:
            raise StepFailed(failed[0])

    def _run(self, script: str, env: Mapping[str, str]) -> str:
        if script in self.installed:
            return ""
        if script.startswith("pip install "):  # jobs share their programs here, so installing once is enough
            self.installed.add(script)
        environ = {**self.environ, **env, "GITHUB_RUN_ID": "4711", "CI": "true"}
        with terminal(self.checkout, environ) as shell:
            printed, code = shell.run(f"( set -e; {script}\n)")
        return f"{script}\n{printed}\nexit {code}" if code else ""

    def _uses(self, step: Mapping[str, Any]) -> str:
        """What the actions of the page do here."""
        given = step.get("with", {})
        here = self.checkout / given.get("path", "")
        match step["uses"].partition("@")[0]:
            case "actions/checkout" | "actions/setup-python" | "aws-actions/configure-aws-credentials":
                pass
            case "actions/cache/restore":
                kept = sorted(self.home.glob(f"cache/{given['restore-keys']}*"), key=os.path.getmtime)
                if kept:
                    shutil.copytree(kept[-1], here, dirs_exist_ok=True)
            case "actions/cache/save":
                shutil.copytree(here, self.home / "cache" / given["key"])
            case "actions/upload-artifact":
                shutil.copytree(here, self.home / "artifacts" / given["name"])
            case "actions/download-artifact":
                assert given["merge-multiple"]
                for found in sorted(self.home.glob(f"artifacts/{given['pattern']}")):
                    shutil.copytree(found, here, dirs_exist_ok=True)
            case other:
                pytest.fail(f"{other}: what does it do?")
        return ""


def _filled(value: Any, context: Mapping[str, str]) -> Any:
    """The step with its expressions replaced; one that the context lacks is an error."""
    if isinstance(value, dict):
        return {name: _filled(part, context) for name, part in value.items()}
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\{\{ *([\w.]+) *\}\}", lambda found: context[found[1]], value)


@pytest.fixture
def runner(tmp_path: Path, environ: Mapping[str, str]) -> Runner:
    return Runner(tmp_path, environ)


def streak(runner: Runner) -> Any:
    found = yaml.safe_load((runner.checkout / "reports" / "readiness.json").read_text("utf-8"))
    return found["verdict"], found["streak"]["length"]


def test_github_with_the_ledger_in_s3(runner: Runner) -> None:
    (ledger,) = (block.text for block in blocks(PAGE) if block.language == "toml" and "s3://" in block.text)
    (runner.url,) = re.findall(r'url = "(.*)"', ledger)
    (job,) = pipeline("name: readiness\n")["jobs"].values()
    for length in (1, 2):
        runner.job(job["steps"])
        assert streak(runner) == ("READY", length)
        assert (runner.checkout / "reports" / "junit.xml").is_file()
        shutil.rmtree(runner.home / "artifacts")


def test_github_with_the_ledger_in_the_actions_cache(runner: Runner) -> None:
    runner.environ = {**runner.environ, **KEYS}
    steps, wait = pipeline("actions/cache/restore"), pipeline("READY FOR LAUNCH")
    runner.job(steps)
    assert streak(runner) == ("READY", 1)
    with pytest.raises(StepFailed, match=r"READY FOR LAUNCH[\s\S]*exit 1$"):
        runner.job([*steps, *wait])
    runner.job([*steps, *wait])
    assert streak(runner) == ("READY", 3)


def test_github_on_twenty_runners(runner: Runner) -> None:
    jobs = pipeline("--readiness-shard")["jobs"]
    shards = jobs["shard"]["strategy"]["matrix"]["shard"]
    assert shards == list(range(1, 21))
    runner.environ = {**runner.environ, **KEYS}
    for shard in shards:
        runner.job(jobs["shard"]["steps"], {"shard": shard})
    runner.job(jobs["merge"]["steps"])
    assert streak(runner) == ("READY", 1)


def test_gitlab(runner: Runner) -> None:
    (job,) = pipeline("resource_group").values()
    runner.environ = {**runner.environ, **KEYS}
    runner.job([{"run": command} for command in job["script"]])
    assert streak(runner) == ("READY", 1)
    kept = [*job["cache"]["paths"], *job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]
    assert all((runner.checkout / path).exists() for path in kept)
