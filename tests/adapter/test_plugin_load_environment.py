"""`load_environment`: how a suite's own commands read an environment without pytest."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_readiness import ProfileError, SetupError, load_environment

SCHEMA = """
[section.api.url]
type = "url"
required = true
env = "TEST_LOAD_API_URL"
[section.api.key]
type = "secret"
"""
PROFILE = 'name = "{name}"\nlive = false\n[api]\nurl = "{url}"\nkey = "file:{key}"\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one complete environment and one that lacks its URL."""
    environments = tmp_path / "environments"
    environments.mkdir()
    (tmp_path / "readiness.toml").write_text("schema_version = 1\n")
    (environments / "schema.toml").write_text(SCHEMA)
    (tmp_path / "key").write_text("a secret value")
    for name, url in (("full", "http://api.test"), ("bare", "")):
        text = PROFILE.format(name=name, url=url, key=tmp_path / "key")
        (environments / f"{name}.toml").write_text(text)
    (tmp_path / "deep" / "down").mkdir(parents=True)
    return tmp_path


def test_a_profile_is_found_from_any_directory_of_the_project(project: Path) -> None:
    environment = load_environment("full", project / "deep" / "down")
    assert (environment.name, environment.api.url) == ("full", "http://api.test")
    assert environment.secret("api.key") == "a secret value"


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _large(path: Path) -> None:
    path.write_bytes(b"#" * (2**20 + 1))


@pytest.mark.parametrize("make", [_pipe, _device, _large])
@pytest.mark.parametrize("name", ["environments/full.toml", "environments/schema.toml", "key"])
def test_what_is_not_a_regular_file_or_too_large_is_refused(
    project: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(project / name)
    with pytest.raises(ProfileError) as caught:
        load_environment("full", project).secret("api.key")
    assert "not a regular file" in str(caught.value) or "larger than 1048576 bytes" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3


def test_a_name_that_no_file_can_have_is_refused(project: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        load_environment("a\0b.toml", project)


def test_a_secret_in_the_home_of_no_user_is_not_there(project: Path) -> None:
    profile = project / "environments" / "full.toml"
    profile.write_text(profile.read_text().replace("file:", "file:~no-such-user"))
    with pytest.raises(SetupError, match="cannot read ~no-such-user"):
        load_environment("full", project).secret("api.key")


def test_a_profile_with_the_name_of_another_is_refused(project: Path) -> None:
    full, copied = (project / "environments" / f"{name}.toml" for name in ("full", "copied"))
    copied.write_text(full.read_text())
    with pytest.raises(ProfileError, match=r"copied\.toml: name: 'full' is not the name of the file"):
        load_environment("copied", project)
    assert load_environment("environments/copied.toml", project).name == "full"


def test_a_path_is_taken_relative_to_the_directory(project: Path) -> None:
    assert load_environment("environments/full.toml", project).api.url == "http://api.test"


def test_a_variable_overrides_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LOAD_API_URL", "http://other.test")
    assert load_environment("bare", project).api.url == "http://other.test"


@pytest.mark.parametrize(
    ("asked", "expected"), [("bare", "api.url: missing"), ("none", "unknown environment 'none'")]
)
def test_bad_profiles_are_errors_of_three_lines(project: Path, asked: str, expected: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_environment(asked, project)
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3


def test_a_secret_that_does_not_exist_is_the_runners_fault(project: Path) -> None:
    (project / "key").unlink()
    with pytest.raises(SetupError, match="cannot read"):
        load_environment("full", project).secret("api.key")


def test_pytest_is_not_imported(project: Path) -> None:
    code = (
        "import sys; from pytest_readiness import load_environment; "
        "load_environment('full'); print('pytest' in sys.modules, 'boto3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
