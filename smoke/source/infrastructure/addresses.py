"""Hosts and ports in a task's variables, compared with those of the services.

Also settings that a container cannot use, and the number of connections that the pooler's variables allow,
compared with the plan's budget. `led` applies this to the task definitions in Terraform.

Values that are understood and wrong are findings: another environment's host, a port on which the service
does not listen, a name that does not exist. Any other value is ignored.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from smoke.source.checkout import Examined
from smoke.source.rules import ENVIRONMENTS
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Body, Environment, Resource
from smoke.source.terraform.references import choices, entries, items, referenced, secret
from smoke.source.terraform.values import Symbol, Value, is_known, number, settle, text

from .databases import OF_SERVER, Budget
from .definitions import Container, Definitions, containers, plainly, ports

#: An address with a literal password, of a host that is not the task itself.
PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\s:/@]*:[^\s/@${}<>%]+@(?!localhost\b|127\.)")
#: A Terraform reference that is plain text, with its dollar or, in an address, without. An application may
#: have its own templates, such as `{data.name}`.
_UNFILLED = re.compile(
    r"(?:(?=\$)|\A[a-z]+://\S*?)"
    r"(\$?\{(?:(?:local|var)\.\w|each\.(?:key|value)\b|(?:module|aws_\w+)\.\w+[.\[]|data\.\w+\.\w+[.\[])[^{}\s]*\})"
)
#: A variable that holds an address, and one that by its name may hold a secret's location.
_OF_ADDRESS, _OF_NAME = re.compile(r"(?:.*_)?(?:URL|URI|DSN)"), re.compile(r".*_(?:ARN|ID|NAME|SECRET|PATH)")
_HOLDERS = ("aws_secretsmanager_secret", "aws_ssm_parameter")
_ARN = re.compile(r"arn:aws[\w-]*:(?:secretsmanager|ssm):.+")


def names_of_secrets(defined: Definitions) -> set[str]:
    """The variables that pass secret values to containers."""
    return {name for each in defined.definitions for box in each.containers for name, _ in box.secrets}


def unfit(
    owner: str, listed: Value | None, given: Mapping[str, Value], secrets: Collection[str]
) -> Iterator[tuple[str, Value]]:
    """Yield what is wrong with the variables of a container of `owner`: `listed`, and `given` by name.

    `secrets` are variables that pass the values of secrets.
    """
    every = [dict(_twice(chosen)) for chosen in choices(listed)]
    for name, value in every[0].items() if every else ():
        if all(name in each for each in every):
            yield f"{name} of {owner} has two values", value
    for name, value in given.items():
        if is_known(value) and (left := _UNFILLED.search(text(value))):
            yield f"{name} of {owner} contains {left[1]}, which nothing fills in", value
        if is_known(value) and PASSWORD.match(text(value)):
            yield f"{name} of {owner} has a password in plain text", value
        read_as_value = _OF_ADDRESS.fullmatch(name) or (name in secrets and not _OF_NAME.fullmatch(name))
        if read_as_value and _is_where(value):
            yield f"{name} of {owner} is the ARN of a secret, not its value", value


def _twice(chosen: Collection[Value]) -> Iterator[tuple[str, Value]]:
    """The variables that a list sets twice, with different values."""
    first: dict[str, Value] = {}
    for pair in map(entries, chosen):
        name, value = pair.get("name"), pair.get("value")
        if name is None or value is None or not is_known(name) or not is_known(value):
            continue
        if text(first.setdefault(text(name), value)) != text(value):
            yield text(name), value


def _is_where(value: Value) -> bool:
    """Whether a value is the location of a secret."""
    content, holder = settle(value).content, referenced(value)
    if holder is not None and holder.type in _HOLDERS and isinstance(content, Symbol):
        return content.path[:1] in (("arn",), ("id",)) and holder.block.type == "resource"
    return is_known(value) and _ARN.fullmatch(text(value)) is not None


_PLACE = re.compile(
    r"(?<![\w.$}-])(?:(?P<scheme>https?)://)?(?P<host>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?::(?P<port>\d{1,5})(?!\d))?(?![\w.-])(?P<path>/[^\s?#,;]*)?"
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ITSELF = re.compile(r"(?:https?://)?(?:localhost|127\.0\.0\.1)(?![\w.-])")
_HOST, _PORT = re.compile(r"(.*_)?HOST(NAME)?"), re.compile(r"\d{1,5}")
#: Words of a variable that holds only the address of the service it names.
_ADDRESS_WORDS = frozenset(
    {"url", "uri", "host", "hostname", "addr", "address", "endpoint", "origin", "base", "api", "service"}
    | {"internal", "private", "jwks", "loa"}
)
#: A private key as PEM, as PEM in base64 ("-----BEGIN PRIVATE", "… EC PRIVATE", "… RSA PRIVATE"), or as JWK.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----|LS0tLS1CRUdJTi(?:BQUklWQVRF|BFQyBQUklWQVRF|BSU0EgUFJJVkFUR)"
    r"|\{(?=[^{}]*\"kty\")[^{}]*\"d\"\s*:\s*\"[\w-]{16}"
)
#: Variables with the name of a secret or a parameter; others may have a repository's, or a path, like it.
_STORED = re.compile(r"SECRET|PARAM|SSM|CREDENTIAL|PASSWORD|TOKEN|KEY", re.IGNORECASE)
#: Variables that give a container its own port.
_OWN_PORT = ("PORT", "LISTEN_PORT")


@dataclass(frozen=True, slots=True)
class Directory:
    """The addresses of one environment.

    `listening` are a service's ports by its host name, empty if unknown; `public` the host names behind the
    load balancer; `there` says whether a name in the private zone resolves. `settings` are required values of
    a service's variables, if it has them, `budgets` the connections that a pooler may open, `keys` the path
    of a service's key set by host name, `plain` the ports on which it speaks HTTP without TLS, `zones` the
    names of existing zones.
    """

    prefix: str
    listening: Mapping[str, Collection[int]]
    public: Collection[str]
    there: Callable[[str], bool]
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    plain: Mapping[str, Collection[int]] = field(default_factory=dict)
    zones: Collection[str] = ()

    def wrong(
        self, owner: str, given: Mapping[str, str], ports: Collection[int] = (), *, alone: bool = False
    ) -> Iterator[str]:
        """What is wrong in the variables of a container of `owner` that listens on `ports`.

        If it is `alone` in its task, an address of the task leads to itself.
        """
        for name, value in given.items():
            for scheme, host, port, path in _places(name, value, given):
                wrong = [*self._misleads(name, scheme, host.lower(), port, path)]
                for why in wrong:
                    yield f"{name} of {owner} leads to {host}{f':{port}' if port else ''}: {why}"
                # a container beside the pooler may use it; /pgbouncer is the pooler's own console
                own = host.lower().partition(".")[0] == owner and path != "/pgbouncer"
                maps = not {*ports}.isdisjoint(self.listening.get(host.lower(), ()))
                if own and maps and not wrong and owner in self.budgets and OF_SERVER.fullmatch(name):
                    yield f"{name} of {owner} leads to {host}: the pooler itself instead of the database"
            if alone and _ITSELF.match(value) and (meant := self._meant(name)):
                yield f"{name} of {owner} leads to its own task, which contains no {meant}"
            yield from (f"{name} of {owner} {why}" for why in self._improper(name, value))
            if name in _OWN_PORT and ports and _PORT.fullmatch(value) and int(value) not in ports:
                yield f"{name} of {owner} is {value}, but its container listens on {_listed(ports)}"
            wanted = self.settings.get(owner, {}).get(name)
            if wanted is not None and value != wanted:
                yield f"{name} of {owner} is {value}, not {wanted}"
        if owner in self.budgets:
            yield from self.budgets[owner].overdrawn(owner, given)

    def _improper(self, name: str, value: str) -> Iterator[str]:
        if _PRIVATE_KEY.search(value):
            yield "is a private key in plain text: take it from its store by secrets"
        if self._stored_elsewhere.fullmatch(value) and (value.startswith("arn:") or _STORED.search(name)):
            yield f"is the name of another environment's secret or parameter, {value}"

    def unresolved(self, owner: str, given: Mapping[str, str]) -> Iterator[str]:
        """The variables of services' addresses, by name, with a host that nothing here resolves."""
        for name, value in given.items():
            bare = _BARE.match(value) if self._meant(name) else None
            if bare is not None and not {bare[1].lower(), _SEARCHED} & {*self.zones}:
                yield f"whether {name} of {owner} leads anywhere: {bare[1]} is not a full host name"
            for _, host, _, _ in _places(name, value, given) if self._meant(name) else ():
                known = {*self.listening, *self.public, *self.zones}
                inside = any(host.lower() == each or host.lower().endswith(f".{each}") for each in known)
                if _PRIVATE_ZONE.search(host.lower()) and not inside:
                    yield f"whether {name} of {owner} leads anywhere: no zone in the files has {host}"

    def _misleads(self, name: str, scheme: str, host: str, port: int | None, path: str) -> Iterator[str]:
        meant = self._meant(name)
        keys = "JWKS" in name.upper() and re.search(r"ORIGIN|CORS|ALLOW", name.upper()) is None
        if host in self._siblings(unnamed=bool(meant) or keys) or self._other.fullmatch(host):
            yield "another environment's host"
        elif host in self.listening:
            listening = self.listening[host]
            if port is not None and listening and port not in listening:
                yield f"it listens on {_listed(listening)}"
            elif scheme == "https" and port in self.plain.get(host, ()):
                yield "it speaks plain HTTP there, as its own health check shows"
            if meant and host.partition(".")[0] != meant:
                yield f"that is not {meant}"
            elif path and keys and path != self.keys.get(host, path):
                yield f"its key set is at {self.keys[host]}, not at {path}"
        elif host.endswith(f".{self.prefix}.local") and not self.there(host):
            yield "no service has this name"

    def _meant(self, name: str) -> str:
        """The service that a variable's name says it addresses; FINN_CALLBACK_URL does not say."""
        words = {*name.lower().split("_")}
        named = words & {known.partition(".")[0] for known in self.listening}
        return named.pop() if len(named) == 1 and words - named <= _ADDRESS_WORDS else ""

    @property
    def _other(self) -> re.Pattern[str]:
        """Hosts in the private zone of another environment, and its databases by their RDS names."""
        stem, _, own = self.prefix.rpartition("-")
        other = rf"{re.escape(stem)}-(?!{re.escape(own)}\b)({ENVIRONMENTS})"
        return re.compile(rf"(?:.+\.)?{other}\.local|{other}(-[\w-]+)?\..+\.rds\.amazonaws\.com")

    @property
    def _stored_elsewhere(self) -> re.Pattern[str]:
        """Names and ARNs of another environment's secrets and parameters."""
        stem, _, own = self.prefix.rpartition("-")
        if not stem:
            return re.compile(r"(?!)")
        place = r"(?:arn:[\w-]+:(?:secretsmanager|ssm):[\w-]*:\d*:(?:secret:|parameter))?/?"
        return re.compile(rf"{place}{re.escape(stem)}-(?!{re.escape(own)}\b)({ENVIRONMENTS})/[\w/.+=@-]+")

    def _siblings(self, *, unnamed: bool) -> set[str]:
        """The public hosts that other environments have for those of this one.

        `unnamed`: also production's, without an environment's name. That may be the company's own page.
        """
        own = self.prefix.rpartition("-")[2]
        words: list[list[str]] = [[word] for word in ENVIRONMENTS.split("|") if word != own]
        return {
            ".".join([*parts[: parts.index(own)], *other, *parts[parts.index(own) + 1 :]])
            for parts in (host.split(".") for host in self.public)
            if own in parts
            for other in words + [[]] * unnamed
        }


def _places(name: str, value: str, given: Mapping[str, str]) -> Iterator[tuple[str, str, int | None, str]]:
    """The hosts in a value, with scheme, port and path; the port of X_HOST may be in X_PORT."""
    for found in _PLACE.finditer(value):
        port = found["port"] or _DEFAULT_PORTS.get(found["scheme"])
        if port is None and _HOST.fullmatch(name):
            beside = given.get(re.sub(r"HOST(NAME)?$", "PORT", name), "")
            port = beside if _PORT.fullmatch(beside) else None
        yield found["scheme"] or "", found["host"], int(port) if port else None, found["path"] or ""


def _listed(ports: Collection[int]) -> str:
    return " and ".join(f"port {port}" for port in sorted(ports))


_NAMES = "aws_service_discovery_service"


def directory_of(
    configuration: Configuration,
    defined: Definitions,
    prefix: str,
    members: Mapping[str, str],
    public: Collection[str],
    settings: Mapping[str, Mapping[str, str]],
    budgets: Mapping[str, Budget],
    keys: Mapping[str, str],
) -> Directory:
    """The addresses of the services in the files; `members` maps host names to the plan's names."""
    listening = {each.name: {int(n) for box in ports(each).values() for n in box} | _aliases(each.service)
                 for each in defined.definitions if each.service is not None}  # fmt: skip
    plain = {each.name: plainly(each) for each in defined.definitions if each.service is not None}
    held = [each.attribute("name") for each in configuration.of_type(_NAMES)]
    known = {text(name) for name in held if is_known(name)}
    # if the files leave a name open, or a file could not be read, any may exist
    open_ = len(known) < len(held) or not held or bool(configuration.unread)
    return Directory(
        prefix,
        {host: listening.get(member, set()) for host, member in members.items()},
        [host for host in public if host],
        lambda host: open_ or host.partition(".")[0] in known,
        settings,
        budgets,
        keys,
        {host: plain.get(member, set()) for host, member in members.items()},
        _zones(configuration),
    )


#: Suffixes of hosts that are in no public zone, in addition to those of clouds and Docker.
_PRIVATE_ZONE = re.compile(
    r"(?<!\.ec2)(?<!\.compute)(?<!\.docker)(?<!\.google)\.internal\Z|\.(?:local|lan|corp|intranet|private)\Z"
)
#: A host without a dot in a URL, and the placeholder among zones for a search domain.
_BARE = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^\s/@]*@)?(?!localhost\b)([A-Za-z][\w-]*)(?=[:/?#]|\Z)")
_SEARCHED = "."
_ZONES = ("aws_route53_zone", "aws_service_discovery_private_dns_namespace",
          "aws_service_discovery_http_namespace")  # fmt: skip


def _zones(configuration: Configuration) -> set[str]:
    """The names of zones in the files, and the aliases of services in Service Connect."""
    held = [each.attribute("name") for type_ in _ZONES for each in configuration.of_type(type_)]
    for service in configuration.of_type("aws_ecs_service"):
        for connect in service.blocks("service_connect_configuration"):
            for offered in connect.blocks("service"):
                held += [alias.attribute("dns_name") for alias in offered.blocks("client_alias")]
    searched = [_SEARCHED for _ in configuration.of_type("aws_vpc_dhcp_options")]
    return {*searched, *(text(name).rstrip(".").lower() for name in held if name is not None)}


def _aliases(service: Resource) -> set[int]:
    """The ports of a service in Service Connect."""
    return {
        int(port)
        for connect in service.blocks("service_connect_configuration")
        for offered in connect.blocks("service")
        for alias in offered.blocks("client_alias")
        for value in items(alias.attribute("port"))
        if (port := number(value)) is not None
    }


def led(
    configuration: Configuration, defined: Definitions, directory: Directory, region: str
) -> tuple[int, Examined]:
    """Return how many variables were read, and those that point outside this environment.

    `region` is the profile's, empty if it has none; logs must go to the region of the tasks.
    """
    result, count = Examined(), 0
    regions = [
        (body, value)
        for module in configuration.modules
        for block in module.files.others
        if block.type == "provider" and block.labels == ("aws",) and "alias" not in block.attributes
        for body in (Body(block, Environment(module)),)
        if (value := body.attribute("region")) is not None
    ]
    for body, value in regions:
        if region and is_known(value) and text(value) != region:
            what = f"the provider uses the region {text(value)}, but the profile {region}"
            result.findings.append(body.finding(what, value))
    known = {text(value) for _, value in regions if is_known(value)}
    here = region or (known.pop() if len(known) == 1 else "")
    secrets = names_of_secrets(defined)
    for each in defined.definitions:
        for made in (*each.tasks, *([each.service] if each.service is not None else [])):
            if (other := configuration.foreign_region(made)) is not None:
                result.findings.append(made.finding(f"{made.address} is created in {other}"))
        for task in each.tasks:
            boxes, unread = containers(task)
            for container in boxes:
                given = container.variables
                count += len(given)
                alone = len(boxes) == 1 and not unread
                wrong = [*_misled(each.name, container, given, directory, here, alone=alone)]
                texts = {name: text(value) for name, value in given.items()}
                for what in directory.unresolved(each.name, texts):
                    result.not_examined.append(task.finding(what, given[what.split()[1]]))
                wrong += unfit(each.name, container.entries.get("environment"), given, secrets)
                result.findings.extend(task.finding(what, at) for what, at in wrong)
    return count, result


def _misled(
    owner: str, container: Container, given: Mapping[str, Value], directory: Directory, region: str,
    *, alone: bool,
) -> Iterator[tuple[str, Value]]:  # fmt: skip
    """The variables, secrets and logs of `owner`'s container that point outside this environment."""
    for name, value in container.secrets:
        written = text(value)
        if pinned(written):
            yield f"{name} of {owner} is pinned to one version, so a later version never reaches it", value
        known = secret(value)
        abroad = _OF_SECRET.match(written)
        if abroad and region and abroad[1] != region and abroad[2].startswith(f"{directory.prefix}/"):
            yield f"{name} of {owner} is read in {abroad[1]}, but its task runs in {region}", value
        held = referenced(value)
        if held is not None and held.type == "aws_secretsmanager_secret" and _CUT_OFF.fullmatch(written):
            yield (
                f"{name} of {owner} is incomplete: after its ARN a secret has a key, a stage and a version",
                value,
            )
        if _OF_PRIVATE.fullmatch(name) and known is not None and _BESIDE.fullmatch(written):
            yield f"{name} of {owner} reads a part of its secret that is not a key", value
        if is_mixed_up(name, known.name if known is not None else written):
            yield f"{name} of {owner} contains a signing key", value
    texts = {name: text(value) for name, value in given.items()}
    listening = {int(n) for port in container.ports if (n := number(port)) is not None}
    for what in directory.wrong(owner, texts, listening, alone=alone):
        yield what, given[what.partition(" ")[0]]
    logs = entries(entries(container.entries.get("logConfiguration")).get("options")).get("awslogs-region")
    if region and is_known(logs) and text(logs) != region:
        yield f"the logs of {owner} go to {text(logs)}, but its tasks run in {region}", logs


#: A container's reference to a secret, with a JSON key, a stage and a version's id after the ARN.
_GIVEN = re.compile(r"(?:\$\{[^}]*\}|.*:secret:[^:]+):[^:]*:(?P<stage>[^:]*):(?P<version>[^:]*)")
#: A variable that holds a private key, and the members of a signing key's JSON that do not.
_OF_PRIVATE = re.compile(r"(?:.*_)?(?:PRIVATE|SIGNING)_KEY")
_BESIDE = re.compile(
    r"(?:\$\{[^}]*\}|.*:secret:[^:]+):(?:schemaVersion|activeKid|pendingKid|revocation):[^:]*:[^:]*"
)
#: ECS refuses one or two of the three without the others.
_CUT_OFF = re.compile(r"\$\{[^}]*\.arn\}(?::[^:]*){1,2}")


def pinned(reference: str) -> bool:
    """Whether a container gets a fixed version of a secret, and so never a newer one."""
    found = _GIVEN.fullmatch(reference)
    known = {name: "" if "${" in part else part for name, part in found.groupdict().items()} if found else {}
    return bool(known.get("version")) or known.get("stage", "") not in ("", "AWSCURRENT")


#: A variable with the address of a database, and the end of a signing key's ARN or name.
_OF_DATABASE = re.compile(r"(?:.*_)?(?:DATABASE|DB|POSTGRES|PG|REDIS)_UR[LI]")
_OF_KEY = re.compile(r".*/es256-private-key(?:-\w{6})?(?::.*)?")


def is_mixed_up(name: str, reference: str) -> bool:
    """Whether a variable takes the address of a database from the secret of a signing key."""
    return _OF_DATABASE.fullmatch(name) is not None and _OF_KEY.fullmatch(reference) is not None


_OF_SECRET = re.compile(r"arn:[^:]*:secretsmanager:([a-z0-9-]+):[^:]*:secret:([^:]+)")
