"""Whether the images that run are still in ECR: a task that runs goes on without its image."""

import re

from smoke.source.checkout import Examined, Finding

from .account import AwsAccount
from .ecs import TaskDefinition

_IN_ECR = re.compile(
    r"(?P<registry>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)/"
    r"(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>.+))?"
)
_ABSENT = ("ImageNotFoundException", "RepositoryNotFoundException")


def images_there(account: AwsAccount, definition: TaskDefinition) -> Examined:
    """Which images of a task ECR has no more; one in another region's is not examined.

    Images of other registries are not looked up.
    """
    examined = Examined()
    for image in sorted({container.image for container in definition.containers}):
        found = _IN_ECR.fullmatch(image)
        if found and found["region"] != account.region:
            where = f"whether {image} is there: it is in {found['region']}"
            examined.not_examined.append(Finding("", 0, where))
        elif found and not _is_there(account, found):
            why = f"a task that is replaced cannot start: {image} is not in the registry"
            examined.findings.append(Finding("", 0, why))
    return examined


def _is_there(account: AwsAccount, image: re.Match[str]) -> bool:
    wanted = {"imageDigest": image["digest"]} if image["digest"] else {"imageTag": image["tag"] or "latest"}
    place = {"registryId": image["registry"], "repositoryName": image["repository"]}
    found = account.find("ecr", "describe_images", _ABSENT, **place, imageIds=[wanted])
    return bool(found and found["imageDetails"])
