"""Target groups of the load balancers: how each asks its targets for health, and what they answered."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smoke.source.connections import OK, accepted

from .account import AwsAccount, at_once

_ABSENT = ("TargetGroupNotFound",)
#: States of a target that gets requests; where health is not asked for, it is unavailable.
_SERVING = ("healthy", "unavailable")


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """A target group: the port and the path that it asks for health, and the states of its targets.

    The port is 0 where it is that of each target, the path empty where it is only connected to; `codes` are
    the statuses that it takes for health, such as `200-299`.
    """

    name: str
    port: int
    path: str
    targets: Mapping[str, str]
    codes: str = ""

    def mistaken(self, service: str, ports: Collection[int], health: str) -> Iterator[str]:
        """How it asks a service that listens on `ports` and reports its health at the path `health`."""
        if self.port and ports and self.port not in ports:
            listening = " and ".join(map(str, sorted(ports)))
            yield f"{self.name} asks port {self.port} for health, {service} listens on {listening}"
        if self.path and health and self.path.partition("?")[0] != health:
            yield f"{self.name} asks {self.path} for health, {service} reports it at {health}"
        if self.codes and accepted(self.codes, OK) is False:
            yield f"{self.name} takes {self.codes} for health, {service} answers {OK}"


def idle(groups: Sequence[TargetGroup]) -> str:
    """Why no target of any of the groups gets requests; empty where one does, or where there is no group."""
    states = {target: state for group in groups for target, state in group.targets.items()}
    if not groups or any(state.partition(" ")[0] in _SERVING for state in states.values()):
        return ""
    seen = ", ".join(f"{target} is {state}" for target, state in states.items()) or "it has none"
    return f"no target of {' or '.join(group.name for group in groups)} is healthy: {seen}"


def read_target_groups(account: AwsAccount, arns: Iterable[str]) -> list[TargetGroup]:
    """Target groups by their ARNs; one that does not exist is left out."""

    def read(arn: str) -> TargetGroup | None:
        found = account.find("elbv2", "describe_target_groups", _ABSENT, TargetGroupArns=[arn])
        targets = account.find("elbv2", "describe_target_health", _ABSENT, TargetGroupArn=arn)
        if found is None or targets is None:
            return None
        return target_group_of(found["TargetGroups"][0], targets["TargetHealthDescriptions"])

    return [group for group in at_once(read, dict.fromkeys(arns)) if group is not None]


def target_group_of(described: Mapping[str, Any], targets: Sequence[Mapping[str, Any]]) -> TargetGroup:
    """A target group from DescribeTargetGroups and DescribeTargetHealth."""
    port = str(described.get("HealthCheckPort", ""))
    asks = str(described.get("HealthCheckProtocol", "")).startswith("HTTP")
    return TargetGroup(
        name=described["TargetGroupName"],
        port=int(port) if port.isdecimal() else 0,
        path=described.get("HealthCheckPath", "") if asks else "",
        targets={
            f"{each['Target']['Id']}:{each['Target'].get('Port', '')}".rstrip(":"): " ".join(
                filter(None, [each["TargetHealth"]["State"], each["TargetHealth"].get("Reason")])
            )
            for each in targets
        },
        codes=described.get("Matcher", {}).get("HttpCode", "") if asks else "",
    )
