"""How this process reaches AWS, wherever a suite or the plugin itself does."""

from __future__ import annotations

from functools import cache
from typing import Any


def session() -> Any:
    """Return a new botocore session that wastes no time: see `pytest_readiness.aws_session`."""
    import botocore.session

    made = botocore.session.get_session()
    made.register_component("data_loader", _descriptions())
    # asked last, and absent on most runners
    made.set_config_variable("metadata_service_timeout", 1)
    made.set_config_variable("metadata_service_num_attempts", 1)
    return made


@cache
def _descriptions() -> Any:
    """botocore's descriptions of the services; nothing of an account is in them."""
    from botocore.loaders import create_loader

    return create_loader()
