"""Pages are followed word for word, from the built wheel: files written, commands typed, output compared."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Walk, blocks, pages, project_of, terminal
from tests.installed import ROOT, pins, tracked, virtual_environment, wheel

FOLLOWED = [
    page
    for page in pages()
    if page.is_relative_to(DOCS) and any(block.language == "console" for block in blocks(page))
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("docs")
    return virtual_environment(place / "venv", str(wheel(place)), constraints=pins())


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_command_of_a_page_works(page: Path, programs: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for path in tracked(project_of(page)) if project_of(page) else ():
        copy = home / path.relative_to(project_of(page))
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)
    limits = tmp_path / "constraints.txt"
    limits.write_text(pins())
    environ = {"HOME": str(home), "PIP_CONSTRAINT": str(limits), "PIP_QUIET": "1"}
    if page.name == "tutorial.md":  # which installs the plugin itself
        (home / "pytest-readiness").symlink_to(ROOT)
        bare = tmp_path / "bin"
        bare.mkdir()
        (bare / "python3").symlink_to(Path(sys.executable).resolve())
        environ["PATH"] = f"{bare}:/usr/bin:/bin"
    else:
        environ["PATH"] = f"{programs}:/usr/bin:/bin"
    with terminal(home, environ) as shell:
        assert Walk(home, shell).follow(page)
