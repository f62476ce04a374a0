"""The rule of independent definitions: what each needs for itself, and what it may not share with another.

Two readers say what is used: `smoke.aws.reader` of what runs, `smoke.source.definitions` of Terraform.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .checkout import Finding

FAMILY, EXECUTION_ROLE, TASK_ROLE = "task family", "execution role", "task role"
NETWORK, LOGS, SECRET = "security group", "log group", "secret"
#: What each service must have; a task without a service has no network of its own.
REQUIRED = (FAMILY, EXECUTION_ROLE, NETWORK, LOGS)
#: What no two definitions may have in common, besides secrets.
OWN = (*REQUIRED, TASK_ROLE)


@dataclass(frozen=True, slots=True)
class Use:
    """`owner`, a service or a one-shot task, uses a thing; two uses are of one thing by kind and identity.

    `name` is how a person knows the thing, for a secret its path; `path` and `line` are of the file that says
    so, where one does. `why` is what hides the identity, where files alone do not say it.
    """

    kind: str
    identity: str
    owner: str
    name: str
    how: str = "uses"
    path: str = ""
    line: int = 0
    why: str = ""

    def finding(self, what: str) -> Finding:
        """Return a finding where the use is written."""
        return Finding(self.path, self.line, what)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Which group of services an owner belongs to; one that the plan does not list is a group of its own."""

    groups: Mapping[str, Sequence[str]]

    def of(self, owner: str) -> str:
        """The group of a service or task."""
        return next((group for group, members in self.groups.items() if owner in members), owner)

    def of_secret(self, name: str) -> str | None:
        """The group whose name is a part of a secret's path; None for a secret of no single group."""
        parts = name.split("/")
        return next((group for group in self.groups if group in parts), None)

    def lacks(self, group: str, uses: Sequence[Use], required: Mapping[str, Collection[str]]) -> list[str]:
        """Return what a group must have and has not. `required` are the kinds of thing by service or task."""
        lacking = []
        for member in self.groups[group]:
            kinds = {use.kind for use in uses if use.owner == member}
            if member in required and not kinds:
                lacking.append(f"{member} of {group} is not defined")
                continue
            lacking += [f"{member} has no {kind}" for kind in required.get(member, ()) if kind not in kinds]
        secrets = [use for use in uses if use.kind == SECRET and self.of(use.owner) == group]
        if not any(self.of_secret(use.name) == group for use in secrets):
            lacking.append(f"{group} has no secret of its own")
        return lacking

    def shared(self, uses: Sequence[Use], kinds: Iterable[str]) -> dict[str, list[Finding]]:
        """Return by group what of these kinds it has in common with another, or takes from it, once a thing.

        A secret belongs to the group that its path names, even where that group does not refer to it; one of
        no single group does not count here.
        """
        found: dict[str, list[Finding]] = defaultdict(list)
        for kind, users in _by_thing(uses, kinds):
            owner = self.of_secret(users[0].name) if kind == SECRET else None
            groups = {self.of(use.owner) for use in users}
            if kind != SECRET and len(groups) > 1:
                owners = " and ".join(sorted({use.owner for use in users}))
                finding = placed(users, f"{owners} share the {kind} {users[0].name}")
            elif owner and groups - {owner}:
                others = [use for use in users if self.of(use.owner) != owner]
                how = {use.owner: use.how for use in sorted(others, key=lambda use: use.how)}
                taken = " and ".join(f"{user} {how[user]}" for user in sorted(how))
                finding = placed(others, f"{taken} the secret {users[0].name} of {owner}")
                groups.add(owner)
            else:
                continue
            for group in groups:
                found[group].append(finding)
        return {group: sorted(findings) for group, findings in found.items()}

    def communal(self, uses: Sequence[Use]) -> list[Finding]:
        """Return the secrets of no single group that several groups use."""
        found = []
        for _, users in _by_thing(uses, [SECRET]):
            groups = sorted({self.of(use.owner) for use in users})
            if self.of_secret(users[0].name) is None and len(groups) > 1:
                found.append(placed(users, f"the secret {users[0].name} serves {' and '.join(groups)}"))
        return sorted(found)

    def crowded(self, uses: Sequence[Use], services: Collection[str], kinds: Iterable[str]) -> list[Finding]:
        """Return what several services have in common, also those of one group.

        A one-shot task belongs to the services of its group: it may share with one of them, and with the
        other tasks of its group.
        """
        found = []
        for kind, users in _by_thing(uses, kinds):
            owners = {use.owner for use in users}
            running = owners & {*services}
            alone = {self.of(owner) for owner in owners - running} - {self.of(owner) for owner in running}
            if len(running) + len(alone) > 1:
                what = f"{' and '.join(sorted(owners))} share the {kind} {users[0].name}"
                found.append(placed(users, what))
        return sorted(found)

    def unclear(self, uses: Sequence[Use], kinds: Iterable[str]) -> list[Finding]:
        """Return the uses of these kinds that the files leave open which thing is."""
        wanted = set(kinds)
        return sorted({
            use.finding(f"the {use.kind} of {use.owner}: {use.why}")
            for use in uses
            if use.why and use.kind in wanted
        })  # fmt: skip


#: What environments are called, in the prefix of what belongs to one.
ENVIRONMENTS = "prod|production|live|stag|stage|staging|preprod|uat|qa|test|dev|development|sandbox|demo"


def elsewhere(uses: Iterable[Use], prefix: str) -> list[Finding]:
    """Return the uses of what is named as this environment's `prefix`, but for its last word: another's.

    A prefix that does not end in an environment says nothing of how others are named.
    """
    stem, _, own = prefix.rpartition("-")
    if not stem or not re.fullmatch(ENVIRONMENTS, own):
        return []
    other = re.compile(rf"(?:.*/)?{re.escape(stem)}-(?!{re.escape(own)}\b)({ENVIRONMENTS})\b.*")
    return sorted({
        use.finding(f"{use.owner} {use.how} the {use.kind} {use.name}, which is another environment's")
        for use in uses
        if other.fullmatch(use.name)
    })  # fmt: skip


def placed(users: Sequence[Use], what: str) -> Finding:
    """Return a finding at the first of several uses that names the places of the others."""
    places = sorted({(use.path, use.line) for use in users if use.path})
    others = ", ".join(f"{path}:{line}" for path, line in places[1:])
    path, line = places[0] if places else ("", 0)
    return Finding(path, line, f"{what} (also {others})" if others else what)


def _by_thing(uses: Sequence[Use], kinds: Iterable[str]) -> list[tuple[str, list[Use]]]:
    wanted = set(kinds)
    found: dict[tuple[str, str], list[Use]] = defaultdict(list)
    for use in uses:
        if use.kind in wanted:
            found[use.kind, use.identity].append(use)
    return [(kind, users) for (kind, _), users in found.items()]
