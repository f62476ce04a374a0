"""How this process reaches AWS, wherever a suite or the plugin itself does. Needs the extra ``[aws]``."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from .core.errors import ReadinessError


def require(where: str, error: type[ReadinessError]) -> None:
    """Raise ``error`` for what stands in ``where`` when boto3 is not installed."""
    if find_spec("botocore") is None:
        raise error(
            "needs boto3, which is not installed", where=where, action="pip install 'pytest-readiness[aws]'"
        )


def aws_session() -> Any:
    """Return a new botocore session for a suite's own clients, without any of an account's settings.

    botocore's descriptions of the services are read once a process, which takes longer than most checks, and
    a runner outside EC2 waits at most a second for an instance's role. ReadinessError without boto3.
    """
    require("aws_session", ReadinessError)
    import botocore.session

    session = botocore.session.get_session()
    session.register_component("data_loader", _descriptions())
    # asked last, and absent on most runners
    session.set_config_variable("metadata_service_timeout", 1)
    session.set_config_variable("metadata_service_num_attempts", 1)
    return session


@cache
def _descriptions() -> Any:
    """botocore's descriptions of the services; nothing of an account is in them."""
    from botocore.loaders import create_loader

    return create_loader()
