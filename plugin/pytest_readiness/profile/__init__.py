"""Environment profiles: their schema, their capabilities, and how their secrets are resolved.

Also finds a project's files: its launch plan, the schema of its environments, and their profiles.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import aws
from ..core.errors import PlanError, ProfileError, ReadinessError, SetupError
from ..core.model import SHARD_SUFFIX, opened_shard
from ..core.plan import PLAN_NAME, Plan
from .profile import Profile, SecretRef
from .schema import DIRECTORY, SCHEMA_NAME, Schema

if TYPE_CHECKING:
    from ..core.redaction import Redactor

DEFAULT_ENVIRONMENT = "local"
#: Maximum bytes of a file that a person writes, and of a record that a run leaves.
LARGEST_FILE, LARGEST_RECORD = 2**20, 2**26


class UnfitFile(OSError):
    """A file that might never end or fill the memory: a pipe, a device, one that is too large."""


def read_file(path: Path, limit: int = LARGEST_FILE) -> str:
    """Return the text of a regular file of at most ``limit`` bytes; otherwise OSError, such as UnfitFile."""
    try:
        # opening a pipe would wait for its writer
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UnfitFile(errno.EINVAL, "not a regular file")
            content = stream.read(limit + 1)  # a file in /proc does not have a size
        if len(content) > limit:
            raise UnfitFile(errno.EFBIG, f"larger than {limit} bytes")
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "not UTF-8") from None
    except ValueError:  # NUL, a lone surrogate
        raise UnfitFile(errno.EINVAL, "not a possible file name") from None


def find_plan(directory: Path) -> Path | None:
    """Return the launch plan in a directory or its nearest parent, or None."""
    plans = (at / PLAN_NAME for at in (directory, *directory.parents))
    return next((plan for plan in plans if plan.is_file()), None)


def read_plan(path: Path) -> Plan:
    """Read and validate a launch plan; PlanError says what is wrong with it."""
    return Plan.parse(_read(path, path.name, "a plan", PlanError), path.name)


def load_schema(root: Path) -> Schema:
    """Read ``environments/schema.toml``; ProfileError if it is missing or malformed."""
    source = f"{DIRECTORY}/{SCHEMA_NAME}"
    with contextlib.suppress(PermissionError):  # reported below
        if not (root / source).exists():
            raise ProfileError(
                "missing",
                where=source,
                allowed="the settings of all profiles, as [section.NAME.KEY] tables",
                action=f"create {source}; an empty file will do until a check needs a setting",
            )
    return Schema.parse(_read(root / source, source, "a schema of the profiles"), source)


def load_profile(root: Path, invocation: Path, asked: str, schema: Schema) -> Profile:
    """Read the profile that ``--env`` names: a name under ``environments/``, or a path to a ``.toml``."""
    if asked.endswith(".toml"):
        path = invocation / asked
        source = asked
    else:
        path = root / DIRECTORY / f"{asked}.toml"
        source = f"{DIRECTORY}/{asked}.toml"
        if asked not in profile_names(root):
            raise ProfileError(
                f"unknown environment {asked!r}",
                where="--env" if asked != DEFAULT_ENVIRONMENT else f"--env (default: {DEFAULT_ENVIRONMENT})",
                allowed=f"{', '.join(profile_names(root)) or 'none yet'}, or a path that ends in .toml",
                action=f"choose one, or write {source}",
            )
    profile = Profile.parse(_read(path, source, "a profile"), source, schema, os.environ)
    if source != asked and profile.name != asked and "name" not in profile.origins:
        raise ProfileError(
            f"{profile.name!r} is not the name of the file: runs of {asked} would be counted for that one",
            where=f"{source}: name",
            allowed=repr(asked),
            action=f"correct it, or ask for the file with --env ./{source}",
        )
    return profile


def profile_names(root: Path) -> list[str]:
    """Return the names of all profiles under ``environments/``."""
    return sorted(path.stem for path in (root / DIRECTORY).glob("*.toml") if path.name != SCHEMA_NAME)


def known_profiles(root: Path, schema: Schema, environ: Mapping[str, str]) -> list[Profile]:
    """Return all profiles under ``environments/`` that can be read."""
    found = []
    for name in profile_names(root):
        source = f"{DIRECTORY}/{name}.toml"
        with contextlib.suppress(ProfileError):
            found.append(Profile.parse(_read(root / source, source, "a profile"), source, schema, environ))
    return found


def _read(path: Path, source: str, what: str, error: type[ReadinessError] = ProfileError) -> str:
    try:
        return read_file(path)
    except OSError as problem:
        raise error(
            f"cannot be read: {problem.strerror}",
            where=source,
            allowed=f"{what} in TOML",
            action="correct the path or the file",
        ) from problem


def read_shards(paths: Iterable[Path]) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Return the results of shards with their paths, and the unreadable ones; a directory means all in it."""
    found: list[tuple[str, dict[str, Any]]] = []
    unread: list[str] = []
    for path in (each for place in paths for each in _shards_in(place)):
        try:
            found.append((str(path), opened_shard(read_file(path, LARGEST_RECORD))))
        except (OSError, ValueError, RecursionError) as problem:
            why = getattr(problem, "strerror", None) or problem
            unread.append(f"{path.name} cannot be read: {why}")
    return found, unread


def _shards_in(path: Path) -> list[Path]:
    return sorted(path.rglob(f"*{SHARD_SUFFIX}")) if path.is_dir() else [path]


#: Kinds of references to values on the runner: a malformed value there is the runner's mistake.
LOCAL_KINDS = frozenset({"env", "file"})
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 5
#: Total time for one secret: name look-up, credentials, two attempts.
DEADLINE_S = 20.0


class Vault:
    """Resolves each secret of one profile once, and registers every live value with the redactor.

    ``unresolved`` maps a secret's key to the reason why it has no value; a controller sends it to its
    workers, so that they need not wait for the same refusal again.
    """

    def __init__(
        self, profile: Profile, redactor: Redactor, unresolved: Mapping[str, str] | None = None
    ) -> None:
        self._profile = profile
        self._redactor = redactor
        self._values: dict[str, str] = {}
        self.unresolved: dict[str, str] = dict(unresolved or {})
        self._aws: _SecretsManager | None = None

    def value(self, key: str) -> str:
        """Return the value of a secret such as ``auth.key``; SetupError says what to do if there is none."""
        if key in self._values:
            return self._values[key]
        if key in self.unresolved:
            raise SetupError(self.unresolved[key])
        reference = self._profile.secret_ref(key)
        if reference is None:
            raise SetupError(
                f"{key} is not offered by environment {self._profile.name!r}: set it in the profile"
            )
        try:
            value = self._resolve(reference)
        except SetupError as problem:
            self.unresolved[key] = f"{key}: {problem}"
            raise SetupError(self.unresolved[key]) from problem
        self._redactor.add(value, key)
        self._values[key] = value
        return value

    def renew(self, key: str) -> None:
        """Resolve a secret of the profile again when it is next asked for."""
        self._values.pop(key, None)

    def hide(self, name: str, value: str) -> None:
        """Register a secret that is not in the profile with the redactor."""
        self._redactor.add(value, name)

    def read(self, reference: SecretRef, name: str) -> str:
        """Return a secret that is not the profile's, hidden under ``name``; SetupError when there is none."""
        value = self._resolve(reference)
        self._redactor.add(value, name)
        return value

    def resolve_all(self, *, local_only: bool = False) -> None:
        """Resolve every secret of the profile now: the run learns what is missing, the redactor what to hide.

        ``local_only`` leaves out those that need a network. ProfileError if a local secret does not have the
        format that the schema demands, or if a secret is in AWS and boto3 is not installed. A malformed
        secret in a store is the platform's fault, so checks find it.
        """
        local: dict[str, str] = {}
        secret_keys = (name for name, field in self._profile.schema.fields.items() if field.type == "secret")
        for key in secret_keys:
            reference = self._profile.secret_ref(key)
            if reference is None or (local_only and reference.kind not in LOCAL_KINDS):
                continue
            try:
                value = self.value(key)
            except SetupError:
                continue
            if reference.kind in LOCAL_KINDS:
                local[key] = value
        for key, value in local.items():  # only now, so that a refusal does not show a later secret
            self._profile.check_secret(key, value)

    def _resolve(self, reference: SecretRef) -> str:
        if reference.kind == "env":
            value = os.environ.get(reference.name, "")
            if not value:
                raise SetupError(f"environment variable {reference.name} is not set: export it")
            if any("\ud800" <= char <= "\udfff" for char in value):  # bytes that are not text
                raise SetupError(f"environment variable {reference.name} is not UTF-8: export it again")
            return value
        if reference.kind == "file":
            try:
                value = read_file(Path(reference.name).expanduser()).strip("\n")
            except UnfitFile as problem:
                raise ProfileError(
                    f"cannot be read: {problem.strerror}",
                    where=str(reference),
                    allowed="a regular file that holds the secret alone",
                    action="correct the path or the file",
                ) from problem
            except (OSError, RuntimeError) as problem:  # RuntimeError: no such home directory
                reason = getattr(problem, "strerror", None) or problem
                raise SetupError(f"cannot read {reference.name}: {reason}") from problem
            if not value:
                raise SetupError(f"{reference.name} is empty: write the secret into it")
            return value
        if self._aws is None:
            aws.require(str(reference), ProfileError)
            self._aws = _SecretsManager(
                region=str(self._profile.values.get("aws.region") or ""),
                endpoint=str(self._profile.values.get("aws.endpoint_url") or ""),
            )
        return self._aws.value(reference.name)


class Environment:
    """The fixture ``environment``: a frozen profile (``environment.api.url``) that can resolve secrets."""

    def __init__(self, profile: Profile, vault: Vault) -> None:
        self._profile = profile
        self._vault = vault

    @property
    def profile(self) -> Profile:
        """The validated profile itself."""
        return self._profile

    def secret(self, key: str) -> str:
        """Return the value of a secret such as ``auth.key``; SetupError says what to do if there is none."""
        return self._vault.value(key)

    def renew(self, key: str) -> None:
        """Read a secret again at its next use, because it was rotated; the old one stays hidden."""
        self._vault.renew(key)

    def hide(self, name: str, value: str) -> None:
        """Keep another live secret, such as one that a check created, out of all reports."""
        self._vault.hide(name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._profile, name)

    def __repr__(self) -> str:
        return f"Environment({self._profile.name!r})"


def load_environment(asked: str, directory: Path | None = None) -> Environment:
    """Return the same as the fixture ``environment``: a frozen profile that can resolve its secrets.

    ``asked`` is a value for ``--env``: a name or a path to a ``.toml``. Names are looked up beside the
    nearest launch plan upwards from ``directory`` (default: the working directory). ProfileError for a
    profile that is unknown, malformed or incomplete. Imports no pytest.
    """
    start = (directory or Path.cwd()).resolve()
    plan = find_plan(start)
    root = plan.parent if plan else start
    profile = load_profile(root, start, asked, load_schema(root))
    profile.check_complete()
    from ..core.redaction import Redactor  # imports that a pytest run without a plan does not need

    return Environment(profile, Vault(profile, Redactor()))


class _SecretsManager:
    """AWS Secrets Manager with short timeouts; after one failure of the runner it makes no more calls."""

    def __init__(self, region: str, endpoint: str) -> None:
        self._region, self._endpoint = region, endpoint
        self._client: Any = None
        self._refusal = ""

    def value(self, identity: str) -> str:
        """Return a secret's current value; SetupError naming the credential, permission or name to fix."""
        if self._refusal:
            raise SetupError(self._refusal)
        import botocore.exceptions  # takes a tenth of a second, which other runs need not wait

        try:
            found = aws.in_time(lambda: self._connect().get_secret_value(SecretId=identity), DEADLINE_S)
        except botocore.exceptions.ClientError as problem:
            code = problem.response.get("Error", {}).get("Code", "?")
            raise SetupError(_advice(code, identity)) from problem
        except (botocore.exceptions.BotoCoreError, TimeoutError) as problem:
            self._refusal = f"AWS Secrets Manager: {problem}: give this runner AWS credentials and a region"
            raise SetupError(self._refusal) from problem
        return str(found.get("SecretString") or "")

    def _connect(self) -> Any:
        if self._client is None:
            import botocore.config

            self._client = aws.aws_session().create_client(
                "secretsmanager",
                region_name=self._region or None,
                endpoint_url=self._endpoint or None,
                config=botocore.config.Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    retries={"total_max_attempts": 2},
                ),
            )
        return self._client


def _advice(code: str, identity: str) -> str:
    if code.startswith(("AccessDenied", "UnauthorizedOperation")):
        return f"{code} on secret {identity}: grant this runner secretsmanager:GetSecretValue on it"
    if code == "ResourceNotFoundException":
        return (
            f"secret {identity} does not exist: create it, or correct name, region or account in the profile"
        )
    return f"{code} on secret {identity}: renew this runner's AWS credentials or try again"
