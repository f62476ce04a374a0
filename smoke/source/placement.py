"""Where Terraform's task definitions lead: the addresses in their variables, and the regions they name."""

from collections.abc import Collection, Iterator, Mapping

from .addresses import Budget, Directory
from .checkout import Examined
from .definitions import Definitions, containers, ports
from .evaluate import Environment
from .references import entries, items
from .terraform import Body, Configuration
from .values import Value, flat, is_known, number, text

_NAMES = "aws_service_discovery_service"


def directory_of(
    configuration: Configuration,
    defined: Definitions,
    prefix: str,
    members: Mapping[str, str],
    public: Collection[str],
    settings: Mapping[str, Mapping[str, str]],
    budgets: Mapping[str, Budget],
) -> Directory:
    """Where the services of the files are found; `members` has the plan's name of each by its host name."""
    listening = {each.name: {int(n) for box in ports(each).values() for n in box}
                 for each in defined.definitions if each.service is not None}  # fmt: skip
    held = [each.attribute("name") for each in configuration.of_type(_NAMES)]
    known = {text(flat(name)) for name in held if name is not None and is_known(name)}
    # with a name that the files leave open, or a file that could not be read, any may be there
    open_ = len(known) < len(held) or not held or bool(configuration.unread)
    return Directory(
        prefix,
        {host: listening.get(member, set()) for host, member in members.items()},
        [host for host in public if host],
        lambda host: open_ or host.partition(".")[0] in known,
        settings,
        budgets,
    )


def led(
    configuration: Configuration, defined: Definitions, directory: Directory, region: str
) -> tuple[int, Examined]:
    """Return how many variables were read, and those that lead away from this environment.

    `region` is the profile's, empty where it names none; logs go to the region of the tasks.
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
        if region and is_known(value) and text(flat(value)) != region:
            what = f"the provider works in {text(flat(value))}, the profile in {region}"
            result.findings.append(body.finding(what, value))
    known = {text(flat(value)) for _, value in regions if is_known(value)}
    here = region or (known.pop() if len(known) == 1 else "")
    for each in defined.definitions:
        for task in each.tasks:
            for container in containers(task)[0]:
                given = dict(_variables(container.entries.get("environment")))
                count += len(given)
                texts = {name: text(flat(value)) for name, value in given.items()}
                listening = {int(n) for one in items(container.entries.get("portMappings"))
                             for port in items(entries(one).get("containerPort"))
                             if (n := number(port)) is not None}  # fmt: skip
                for what in directory.wrong(each.name, texts, listening):
                    result.findings.append(task.finding(what, given[what.partition(" ")[0]]))
                options = entries(entries(container.entries.get("logConfiguration")).get("options"))
                logs = options.get("awslogs-region")
                if here and logs is not None and is_known(logs) and text(flat(logs)) != here:
                    what = f"the logs of {each.name} go to {text(flat(logs))}, its tasks run in {here}"
                    result.findings.append(task.finding(what, logs))
    return count, result


def _variables(whole: Value | None) -> Iterator[tuple[str, Value]]:
    for each in items(whole):
        pair = entries(each)
        name, value = pair.get("name"), pair.get("value")
        if name is not None and value is not None and is_known(name):
            yield text(flat(name)), value
