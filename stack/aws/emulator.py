"""What the alterations work on: the emulator's clients, and its inside where no API reaches."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from stack.aws.inventory import CLUSTER
from stack.aws.metrics import Metrics
from stack.aws.notices import Notices
from stack.aws.refusals import Refusals
from stack.aws.tasks import OneShots

if TYPE_CHECKING:
    from collections.abc import Callable

    from stack.aws.clients import Clients
    from stack.aws.load_balancer import LoadBalancer

    # Takes the emulator and the fault's parameters by name.
    Alteration = Callable[..., None]


class Emulator:
    """The emulator as seen from its own process."""

    def __init__(self, endpoint: str, load_balancer: LoadBalancer) -> None:
        self._endpoint = endpoint
        self.load_balancer = load_balancer
        self.metrics = Metrics()
        self.one_shots = OneShots()
        self.refusals = Refusals()
        self.notices = Notices()

    @cached_property
    def aws(self) -> Clients:
        """The clients; botocore is loaded on first use only."""
        from stack.aws.clients import clients

        return clients(self._endpoint)

    def service_record(self, name: str) -> dict[str, Any]:
        """Return the emulator's own record of an ECS service, for what no API can set."""
        from ministack.services import ecs

        record: dict[str, Any] = ecs._services[f"{CLUSTER}/{name}"]
        return record

    def forget_tasks(self, family: str) -> None:
        """Remove every task of a family, running or stopped."""
        from ministack.services import ecs

        for arn, task in ecs._tasks.items():
            if f"/{family}:" in task["taskDefinitionArn"]:
                del ecs._tasks[arn]

    def unconfirm(self, topic_arn: str) -> None:
        """Leave a topic's subscriptions as AWS shows them unconfirmed; ministack confirms all."""
        from ministack.services import sns

        topic = sns._topic_by_arn_any_scope(topic_arn)
        for each in topic["subscriptions"]:
            each["arn"], each["confirmed"] = "PendingConfirmation", False
            each["attributes"]["PendingConfirmation"] = "true"
        sns._refresh_subscription_counts(topic)

    def heal(self) -> None:
        """Undo every alteration that is not part of the emulator's own state."""
        self.metrics.heal()
        self.one_shots.heal()
        self.refusals.heal()
        self.notices.heal()
        self.load_balancer.heal()
