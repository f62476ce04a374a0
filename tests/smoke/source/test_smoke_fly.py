"""The Fly.io scanner: a planted reference is found in any text, allow entries are exact, it is fast."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pytest_readiness import SetupError

from smoke.source.checkout import Checkout
from smoke.source.fly import (
    DECOYS,
    PLANTS,
    Allowed,
    allow_list,
    as_text,
    plant,
    points_to_fly,
    references,
    scan,
)
from tests.smoke.source.repository import git, repository

REFERENCES = (
    "https://app-1.fly.dev/x", "api.fly.io", "fly.io", "Fly.IO", "*.fly.dev", ".fly.dev", "flyctl",
    "FLYCTL_VERSION", "setup-flyctl", "fly.toml", "fly.staging.toml", "fly deploy", '"fly", "deploy"',
    "['fly','deploy']", "FLY_API_TOKEN", "MY_FLY_API_TOKEN", "FLY_APP_NAME", "superfly/flyctl-actions",
    "registry.fly.io/app:1", "https%3A%2F%2Fapp.fly.dev", "-hostapp.fly.dev", "@fly.io", "C:\\fly.toml",
    "http://arrakis-finn.flycast:3000", "http://[fdaa:0:22b7:a7b:abc::2]:3000", "fdaa:2:18:0:1::3", "fdaa::3",
    "fly-global-services", "fly-metrics.net", "https://fly.storage.tigris.dev", "fly-cache-1.upstash.io",
    "top1.nearest.of.loa-finn.internal", "http://_api.internal:4280",
)  # fmt: skip
INNOCENT = (
    "butterfly.io", "on-the-fly deployment", "on the fly deployment", "on the fly deploy", "dragonfly.toml",
    "BUTTERFLY_API_TOKEN", "fly.io.example.org", "my-fly.io", "firefly.dev", "x.dragonfly.dev", "fly.iot",
    "fly.device", "on-the-fly.io", "superflying/x", "fly deployment", "fly-deploy", "butterflyctl",
    "FLY_API_TOKENS", "flyers", "fly", "on the fly status", "birds fly scale-free", "my flycast",
    "a butterfly logs", "butterflyio/x", "dragonflyio/x",
    "butterfly.flycaster", "on the fly machines", "fdaa:bbcc:ddee:0:1::5", "fdaa::30", "host.docker.internal",
    "butterfly-global-services", "dragonfly-metrics.net", "t3.storage.tigris.dev", "butterfly-1.upstash.io",
    "fly-metrics.network", "my-fly-cache.upstash.io",
    "metadata.google.internal", "ip-10-0-0-1.ec2.internal", "finn.internal", "my_api.internal", "a:fdaa::3",
)  # fmt: skip
#: Text that borders on no word, in front of and behind a reference.
LEFT = st.sampled_from(
    ["", " ", "\n", "\t", '"', "'", "(", "=", ":", "//", "`", "é", "\\n", "%2F", "x = ", "run: "]
)
RIGHT = st.sampled_from(["", " ", "\n", "\r\n", '"', "'", ")", ",", ";", "`", ". ", ".", "/", " \\", "é"])
FILLER = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60).filter(
    lambda text: "fly" not in text.lower()
)


@pytest.mark.parametrize("text", REFERENCES)
def test_each_form_of_a_reference_is_found(text: str) -> None:
    assert points_to_fly(text)


@pytest.mark.parametrize("text", INNOCENT)
def test_innocent_words_are_not(text: str) -> None:
    assert not points_to_fly(text)


@example("fdaa:2:18:0:1::3", ":", "", "", "")
@given(st.sampled_from(REFERENCES), LEFT, RIGHT, FILLER, FILLER)
def test_a_reference_is_found_in_any_surroundings(
    reference: str, left: str, right: str, before: str, after: str
) -> None:
    text = f"{before}\n{left}{reference}{right}\n{after}"
    assert points_to_fly(text)
    first = min(found.line for found in references(text.encode(), "f"))
    assert first == f"{before}\n{left}".count("\n") + 1


@given(st.lists(st.sampled_from(INNOCENT), min_size=1), LEFT, RIGHT, FILLER)
def test_innocent_words_stay_innocent_in_any_surroundings(
    words: list[str], left: str, right: str, filler: str
) -> None:
    text = "\n".join([filler, *(f" {word} " for word in words), filler])
    assert not points_to_fly(text)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(REFERENCES),
    st.sampled_from(
        [
            "Dockerfile",
            ".env",
            ".github/workflows/x.yml",
            "a/b.ts",
            "x.json",
            "s.sh",
            "m.tf",
            "no-suffix",
            "y.toml",
        ]
    ),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    FILLER,
)
def test_a_reference_planted_in_any_tracked_text_file_is_found(
    tmp_path_factory: pytest.TempPathFactory, reference: str, name: str, encoding: str, filler: str
) -> None:
    content = f"{filler}\n{reference}\n".encode(encoding, errors="replace")
    checkout = repository(tmp_path_factory.mktemp("repo"), {name: content, "other": "nothing"})
    found = scan(checkout, ())
    assert {ref.path for ref in (*found.live, *found.mentions)} == {name}
    assert (found.files, found.binary) == (2, 0)


def test_a_file_is_found_by_its_name_and_a_link_by_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("https://app.fly.dev")
    checkout = repository(tmp_path, {"deploy/fly.toml": "", "butterfly.toml": "", "setup-flyctl.sh": ""})
    assert {str(ref.finding()) for ref in scan(checkout, ()).live} == {
        "deploy/fly.toml: fly.toml by its name",
        "setup-flyctl.sh: flyctl by its name",
        "link:1: fly.dev: app.fly.dev",
    }


def test_untracked_binary_and_deleted_files_are_left_out(tmp_path: Path) -> None:
    checkout = repository(tmp_path, {"image.png": b"\x89PNG\0fly.io", "gone": "fly.io"})
    (tmp_path / "gone").unlink()
    (tmp_path / "untracked").write_text("fly.io")
    found = scan(checkout, ())
    assert (found.live, found.files, found.binary) == ((), 0, 1)


def test_text_in_utf_16_is_not_binary() -> None:
    assert as_text("fly.io".encode("utf-16")) == b"fly.io"
    assert as_text(b"a\0b") is None


HOST = Allowed("conf.yaml", "upstream", host="up.fly.dev")
PROSE = Allowed("docs/", "history", prose=True)


@given(
    st.sampled_from(["conf.yaml", "other.yaml", "docs/conf.yaml", "conf.yaml.bak", "./conf.yaml"]),
    st.sampled_from(["up.fly.dev", "other.fly.dev", "x.up.fly.dev", "fly.dev", "up.fly.io"]),
)
def test_a_host_is_allowed_in_its_file_only_and_no_other_host_there(path: str, host: str) -> None:
    (found,) = references(f"https://{host}/".encode(), path)
    assert HOST.covers(found) == (path == "conf.yaml" and host == "up.fly.dev")


@pytest.mark.parametrize(
    ("path", "text", "allowed"),
    [
        ("docs/a.md", "We left Fly.io; no `fly deploy`, no FLY_API_TOKEN.", True),
        ("docs/deep/a.rst", "https://fly.io/docs", True),
        ("docs/a.md", "Look at https://app.fly.dev.", False),
        ("docs/a.md", "curl https://api.fly.io/graphql", False),
        ("docs/run.sh", "fly deploy", False),
        ("src/docs/a.md", "fly.io", False),
        ("docs.md", "fly.io", False),
    ],
)
def test_prose_may_name_it_but_give_no_address(path: str, text: str, allowed: bool) -> None:
    found = list(references(text.encode(), path))
    assert found
    assert all(PROSE.covers(ref) for ref in found) == allowed


@pytest.mark.parametrize(
    ("path", "line", "live"),
    [
        # an address and a token's value, wherever they stand
        ("README.md", "See https://app.fly.dev/health.", True),
        ("README.md", "Open https://fly.io/apps/dixie and press the button.", True),
        ("tasks.jsonl", '{"title": "move https://app.fly.dev"}', True),
        ("a.ts", "// const url = 'https://app.fly.dev'", True),
        ("notes.txt", "FLY_API_TOKEN=abcdef1234567890", True),
        ("notes.md", "the token was fo1_AbCdEfGhIjKlMnOpQrStUvWx", True),
        # a name in what runs
        ("deploy.sh", "fly deploy --remote-only", True),
        ("deploy.sh", "grep -q x file && fly deploy", True),
        ("deploy.sh", "echo 'use grep'; flyctl status | grep started", True),
        ("Dockerfile", "RUN curl -L https://fly.io/install.sh | sh", True),
        ("w.yml", "      - uses: superfly/flyctl-actions/setup-flyctl@v1", True),
        ("Dockerfile", "FROM flyio/litefs:0.5 AS litefs", True),
        ("w.yml", "          FLY_API_TOKEN: ${{ secrets.FLY_API_TOKEN }}", True),
        ("task.json", '{"name": "FLY_API_TOKEN", "valueFrom": "x"}', True),
        (".claude/settings.json", '"allow": ["Bash(flyctl:*)"]', True),
        ("run", "#!/usr/bin/env flyctl", True),
        ("a.ts", "# flyctl", True),
        ("config.json", '# "flyctl"', True),
        ("deploy.sh", "fly secrets set A=b", True),
        ("deploy.sh", "cd app && fly machine list", True),
        ("deploy.sh", "if ! fly status; then", True),
        ("deploy.sh", "exec env A=b fly proxy 5432", True),
        ("w.yml", "      - run: fly status -a old", True),
        ("providers.tf", 'provider "fly" {}', True),
        ("providers.tf", '  source = "fly-apps/fly"', True),
        ("w.yml", "url: http://app.flycast:8080", True),
        ("w.yml", 'run: echo "#" && flyctl deploy', True),
        ("a.ts", "const url = 'http://x' + fly.io", True),
        ("package.json", '{"description": "x", "homepage": "fly.io"}', True),
        ("dns/zone.txt", "old IN CNAME old-app.fly.dev.", True),
        # a mention
        ("README.md", "We left Fly.io; no `fly deploy`, no FLY_API_TOKEN.", False),
        ("README.md", "FLY_API_TOKEN: the token of the old platform", False),
        ("README.md", "Read https://fly.io/docs and the blog at https://fly.io/blog/apps.", False),
        (".claude/commands/audit.md", "For example `Bash(flyctl:*)`.", False),
        (".beads/issues.jsonl", '{"id": 1, "title": "Remove flyctl and fly.toml"}', False),
        ("deploy.sh", "  # fly deploy was here", False),
        ("a.ts", "  // no flyctl any more", False),
        ("a.ts", "   * no flyctl any more", False),
        ("w.yml", "      - name: Nothing of fly.toml is left", False),
        ("tasks.yaml", "title: Remove flyctl", False),
        ("check.sh", "if grep -rnE 'fly\\.io|flyctl|fly deploy' scripts; then exit 1; fi", False),
        ("check.sh", "! git grep -q flyctl -- scripts", False),
        ("w.yml", "x: 1 # no flyctl any more", False),
        ("a.ts", "const x = 1; // once on fly.io", False),
        ("main.tf", "// fly.io is gone", False),
        ("a.sql", "-- fly.io was the old host", False),
        ("a.html", "<!-- fly.io was the old host -->", False),
        (".gitignore", "fly.toml", False),
        (".github/CODEOWNERS", "/fly.toml @ops", False),
        ("package.json", '{"description": "moved away from fly.io"}', False),
        # a comment of several lines, a document string, a text that is only shown
        ("a.ts", "/*\n fly deploy\n see fly.toml\n*/", False),
        ("a.ts", "const a = '/*'; run('flyctl'); const b = '*/'", True),
        ("a.ts", "/* x */ const u = 'app.fly.dev'", True),
        ("main.tf", "/*\n the old host on fly.io\n*/", False),
        ("a.jsx", "{/* once on fly.io */}", False),
        ("a.html", "<!--\n  once on fly.io\n-->", False),
        ("a.py", 'def f():\n    """Deploy.\n\n    Once with fly deploy.\n    """', False),
        ("a.py", 'run("""\nfly deploy\n""")', True),
        ("a.rb", "=begin\nfly deploy\n=end", False),
        ("a.ps1", "<#\nfly deploy\n#>", False),
        ("a.lua", "--[[\nfly deploy\n]]", False),
        ("a.bat", "REM fly deploy", False),
        ("a.ini", "; once on fly.io", False),
        ("a.sh", ": <<'EOF'\nfly deploy\nEOF", False),
        ("a.sh", "cat <<EOF\nWe left fly.io\nEOF", False),
        ("a.sh", "bash <<EOF\nfly deploy\nEOF", True),
        ("a.sh", "cat <<EOF | bash\nfly deploy\nEOF", True),
        ("a.sh", "echo 'no fly deploy by hand'", False),
        ("a.sh", "echo 'fly deploy' | sh", True),
        ("a.sh", 'echo "$(flyctl status)"', True),
        # a demand that it is absent, a pattern, a list of words
        ("test_x.py", "assert 'fly.io' not in text", False),
        ("x.test.ts", "expect(body).not.toContain('fly.dev')", False),
        ("x.test.ts", "expect(body).toContain('app.fly.dev')", True),
        (".pre-commit-config.yaml", "  entry: fly\\.io|flyctl", False),
        ("package.json", '{"keywords": ["fly.io"]}', False),
        ("cspell.json", '{"words": [\n"aws",\n"flyctl"\n]}', False),
        ("package.json", '{"words": [], "scripts": {"a": "flyctl"}}', True),
        # what else names the platform
        ("package.json", '{"devDependencies": {"@flydotio/dockerfile": "^0.5.0"}}', True),
        ("route53.tf", 'records = ["app.abc.flydns.net"]', True),
        ("nginx.conf", "proxy_set_header Fly-Client-IP $remote_addr;", True),
        ("Procfile", "release: fly ssh console", True),
        ("runbook.sh", "fly mpg connect --cluster main", True),
        ("litefs.yml", "url: ${FLY_CONSUL_URL}", True),
    ],
)
def test_what_runs_or_points_somewhere_is_live_and_what_speaks_of_it_a_mention(
    path: str, line: str, live: bool
) -> None:
    found = list(references(f"x\n{line}\ny\n".encode(), path))
    assert found
    assert any(ref.live for ref in found) == live, found


def test_no_report_shows_the_value_of_a_token() -> None:
    found = references(b"FLY_API_TOKEN=fo1_AbCdEfGhIjKlMnOpQrStUvWx", "notes.md")
    assert {ref.text for ref in found} == {"FLY_API_TOKEN", "fo1_…"}


def test_an_optional_entry_is_never_stale(tmp_path: Path) -> None:
    checkout = repository(tmp_path, {"docs/a.md": "We left Fly.io.", "other.md": "We left Fly.io."})
    entries = [
        {"path": "docs/", "prose": True, "reason": "r", "optional": True},
        {"path": "gone/", "prose": True, "reason": "r", "optional": True},
        {"path": "conf.yaml", "host": "x.fly.dev", "reason": "r", "optional": True},
        {"path": "away/", "prose": True, "reason": "r"},
    ]
    found = scan(checkout, allow_list(entries))
    assert ([ref.path for ref in found.allowed], [entry.path for entry in found.stale]) == (
        ["docs/a.md"],
        ["away/"],
    )
    assert ([ref.path for ref in found.mentions], found.live) == (["other.md"], ())


def test_what_is_allowed_is_not_live_and_what_allows_nothing_is_stale(tmp_path: Path) -> None:
    checkout = repository(
        tmp_path, {"conf.yaml": "a: https://up.fly.dev\nb: https://b.fly.dev\n", "docs/a.md": "x"}
    )
    found = scan(checkout, (HOST, PROSE))
    assert [str(ref.finding()) for ref in found.allowed] == ["conf.yaml:1: fly.dev: up.fly.dev"]
    assert [str(ref.finding()) for ref in found.live] == ["conf.yaml:2: fly.dev: b.fly.dev"]
    assert found.stale == (PROSE,)


def test_another_product_may_run_where_it_likes(tmp_path: Path) -> None:
    files = {
        "products/harvest/fly.toml": 'app = "harvest"\n',
        "products/harvest-of-ours/run.sh": "flyctl deploy\n",
        ".github/workflows/harvest.yml": "run: flyctl deploy\n",
        ".github/workflows/harvest.yml.sh": "flyctl deploy\n",
        "deploy.sh": "cd products/harvest && flyctl deploy\n",
    }
    entries = [
        {"path": path, "product": True, "reason": "Harvest is another product"}
        for path in ("products/harvest/", ".github/workflows/harvest.yml", "products/gone/")
    ]
    found = scan(repository(tmp_path, files), allow_list(entries))
    assert {ref.path for ref in found.live} == {
        "products/harvest-of-ours/run.sh", ".github/workflows/harvest.yml.sh", "deploy.sh",
    }  # fmt: skip
    assert [each.path for each in found.stale] == ["products/gone/"]


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "a", "host": "x.fly.dev"},
        {"path": "a", "host": "x.fly.dev", "reason": ""},
        {"path": "*.yaml", "host": "x.fly.dev", "reason": "r"},
        {"host": "x.fly.dev", "reason": "r"},
        {"path": "a", "reason": "r"},
        {"path": "docs", "prose": True, "reason": "r"},
        {"path": "docs/", "host": "x.fly.dev", "reason": "r"},
        {"path": "docs/", "prose": True, "host": "x.fly.dev", "reason": "r"},
        {"path": "a", "host": "x.fly.dev", "reason": "r", "until": "later"},
        {"path": "a", "host": "x.fly.dev", "reason": "r", "optional": "yes"},
        {"path": "a/", "product": True, "prose": True, "reason": "r"},
        {"path": "/", "product": True, "reason": "r"},
        {"path": "*", "product": True, "reason": "r"},
        {"path": "a/", "product": True},
    ],
)
def test_an_allow_entry_that_is_not_exact_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match="entry 1 in the plan is not exact"):
        allow_list([entry])


def test_every_plant_is_found_and_no_decoy(tmp_path: Path) -> None:
    assert all(points_to_fly(line.format(number=1)) for line in PLANTS)
    assert not points_to_fly(DECOYS)
    checkout = repository(tmp_path, {"Dockerfile": "FROM x\n", "a.ts": "1", "notes.md": "x", "s.sh": "x"})
    planted = dict(plant(checkout))
    assert set(planted) == {"Dockerfile", "a.ts", "s.sh"}
    found = scan(checkout, ()).live
    assert {path: len({ref.line for ref in found if ref.path == path}) for path in planted} == planted


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """4 000 files of 4 KiB: one in twenty mentions flying, one refers to Fly.io."""
    root: Path = tmp_path_factory.mktemp("large")
    line = "const value = compute(input, { retries: 3, timeout: 250 }); // an ordinary line of code\n"
    body, flying = line * 46, (line * 20 + "on-the-fly and butterfly.io\n") * 2
    for number in range(4000):
        path = root / f"packages/p{number % 40}/src/module-{number}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(flying if number % 20 == 0 else body)
    (root / "packages/p7/src/module-7.ts").write_text(body + 'fetch("https://app.fly.dev")\n')
    git(root, "init", "--quiet", "--template=")
    git(root, "add", "--all")
    return Checkout.at(str(root))


def test_four_thousand_files_take_less_than_two_seconds(large: Checkout) -> None:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        found = scan(large, ())
        took.append(time.perf_counter() - began)
    assert found.files == 4000
    assert [ref.path for ref in found.live] == ["packages/p7/src/module-7.ts"]
    assert min(took) < 2.0, f"took {min(took):.2f} s"


def test_one_long_line_does_not_slow_the_scan_down() -> None:
    text = b"fly" + b"a-b_c." * 200_000 + b" fly.dev"
    began = time.process_time()
    assert list(references(text, "bundle.js"))
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("1. fly ssh console -a arrakis-finn", True),
        ("2) fly secrets list", True),
        ("* fly status", True),
        ("1. Birds that fly status unknown", False),
        ("1. fly away", False),
    ],
)
def test_a_command_in_a_list_of_steps_is_found(line: str, found: bool) -> None:
    assert bool(list(references(f"{line}\n".encode(), "runbook.md"))) == found


def test_nothing_is_planted_where_it_would_only_be_spoken_of(tmp_path: Path) -> None:
    lists = (".gitignore", ".dockerignore", ".gitattributes", ".github/.notes.md", "sub/.prettierignore")
    checkout = repository(tmp_path, dict.fromkeys((*lists, ".env", "Dockerfile"), "x\n"))
    planted = dict(plant(checkout))
    assert {*planted} == {".env", "Dockerfile"}
    found = [ref.path for ref in scan(checkout, ()).live]
    assert {path: found.count(path) >= count for path, count in planted.items()} == dict.fromkeys(
        planted, True
    )


@pytest.mark.parametrize(
    ("line", "path", "live"),
    [
        ('const host = "arrakis.fly" + ".dev";', "a.ts", [True]),
        ("host = f'{app}.fly.' + 'io'", "a.py", [True]),
        ('u = join(".", ["arrakis", "fly", "dev"])', "a.tf", [True]),
        ('u = format("%s.%s.%s", "arrakis", "fly", "dev")', "a.tf", [True]),
        ('const d = ["arrakis", "fly", "dev"].join(".");', "a.js", [True]),
        ('d = ".".join(["arrakis", "fly", "io"])', "a.py", [True]),
        ('# host = "arrakis.fly" + ".dev"', "a.py", [False]),
        ('const insect = "butterfly" + ".dev";', "a.ts", []),
        ('const words = ["fly", "dev", "ops"];', "a.ts", []),
        ('p = path.join("src", "fly", "dev")', "a.js", []),
        ('t = " ".join(["on the", "fly", "io"])', "a.py", []),
        ('const file = "on-the-fly" + ".ts";', "a.ts", []),
    ],
)
def test_a_host_in_parts_is_found_where_a_program_joins_them(line: str, path: str, live: list[bool]) -> None:
    assert [each.live for each in references(line.encode(), path)] == live


@pytest.mark.parametrize("before", ["https://", "x=https://", "a https://"])
@pytest.mark.parametrize("host", ["finn.fly.dev", "api.fly.io"])
def test_base64_of_a_host_is_found_wherever_the_host_begins(before: str, host: str) -> None:
    encoded = base64.b64encode(f"{before}{host}/path".encode())
    (found,) = references(b"a: 1\nB: " + encoded + b"\n", "a.yml")
    assert (found.line, found.kind, found.live) == (2, "base64 of a Fly.io host", True)
    (found,) = references(b"see " + encoded, "a.md")
    assert not found.live
    assert not [*references(base64.b64encode(b"https://example.org/butterfly.device"), "a.yml")]
