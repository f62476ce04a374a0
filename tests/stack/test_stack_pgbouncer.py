"""PgBouncer is found or fetched, with a stand-in for apt-get that hands out real packages made here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stack import pgbouncer
from stack.host import StackError

APT = """#!/bin/sh
# Hands out the packages of $APT_POOL, as `apt-get download` does; anything else must be the private update.
for word in "$@"; do last="$word"; done
[ "$last" = update ] && { echo updated >> "$APT_POOL/log"; exit 0; }
case " $* " in *" download "*) ;; *) exit 100 ;; esac
names="${*##* download }"
echo "download $names" >> "$APT_POOL/log"
for name in $names; do cp "$APT_POOL/$name.deb" "${name}_1_amd64.deb" || exit 100; done
"""


def _package(pool: Path, name: str, depends: str, files: dict[str, str]) -> None:
    root = pool / name
    (root / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.x>\nDescription: x\n"
    (root / "DEBIAN" / "control").write_text(control + (f"Depends: {depends}\n" if depends else ""))
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(0o755)
    subprocess.run(
        ["dpkg-deb", "--build", str(root), str(pool / f"{name}.deb")], check=True, capture_output=True
    )


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("this machine has no dpkg-deb: there is nothing to fetch with")
    pool = tmp_path / "pool"
    tools = tmp_path / "bin"
    pool.mkdir()
    tools.mkdir()
    (tools / "apt-get").write_text(APT)
    (tools / "apt-get").chmod(0o755)
    (tools / "apt-cache").symlink_to("/bin/false")
    monkeypatch.setenv("APT_POOL", str(pool))
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "home"))
    program = {"usr/sbin/pgbouncer": "#!/bin/sh\necho PgBouncer\n"}
    depends = (
        "libc6 (>= 2.3), libnowhere-2.1-7t64 (>= 2.1.8), postgresql-common (>= 26), sysvinit-utils | libelse"
    )
    _package(pool, "pgbouncer", depends, program)
    libraries = {
        "usr/lib/x86_64-linux-gnu/libnowhere-2.1.so.7": "ELF",
        "usr/share/doc/x.socket": "not a library",
    }
    _package(pool, "libnowhere-2.1-7t64", "", libraries)
    return pool


def test_fetch_unpacks_the_program_and_missing_libraries(pool: Path) -> None:
    program = pgbouncer.fetch()
    assert program == pgbouncer.find()
    assert program.path.read_text().startswith("#!/bin/sh")
    assert program.libraries is not None
    assert [path.name for path in program.libraries.iterdir()] == ["libnowhere-2.1.so.7"]
    assert program.environ() == {"LD_LIBRARY_PATH": str(program.libraries)}
    assert (pool / "log").read_text().split("\n") == [
        "updated", "download pgbouncer", "download libnowhere-2.1-7t64", ""
    ]  # fmt: skip
    assert [path.name for path in pgbouncer.home().iterdir()] == ["pgbouncer"], (
        "the scratch directory is gone"
    )


def test_a_failed_fetch_reports_the_cause_and_leaves_nothing(pool: Path) -> None:
    (pool / "libnowhere-2.1-7t64.deb").unlink()
    with pytest.raises(StackError) as caught:
        pgbouncer.fetch()
    assert str(caught.value).startswith("PgBouncer cannot be fetched: apt-get failed")
    assert len(str(caught.value).splitlines()) <= 3
    assert list(pgbouncer.home().iterdir()) == []


def test_a_machine_without_apt_gets_instructions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="no apt-get"):
        pgbouncer.fetch()


def test_a_program_in_a_private_home_is_copied_for_other_users(tmp_path: Path) -> None:
    private = tmp_path / "private"
    libraries = private / "lib"
    libraries.mkdir(parents=True)
    (libraries / "libx.so.1").write_text("ELF")
    (private / "pgbouncer").write_text("#!/bin/sh\n")
    private.chmod(0o700)
    program = pgbouncer.Program(private / "pgbouncer", libraries)
    target = tmp_path / "run"
    target.mkdir()
    copy = program.reachable_from(target)
    assert copy.path.is_relative_to(target)
    assert copy.libraries is not None
    assert [path.name for path in copy.libraries.iterdir()] == ["libx.so.1"]


def test_the_command_prints_the_path_of_the_program(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if pgbouncer.find() is not None:
        pytest.skip("PgBouncer is installed on this machine: it would not be fetched")
    assert pgbouncer.main() == 0
    assert capsys.readouterr().out == f"pgbouncer: {pgbouncer.home() / 'pgbouncer' / 'pgbouncer'}\n"
    (pool / "pgbouncer.deb").unlink()
    shutil.rmtree(pgbouncer.home())
    assert pgbouncer.main() == 1
    assert "cannot be fetched" in capsys.readouterr().err
