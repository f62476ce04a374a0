"""Access to AWS for suites and for the plugin itself. Needs the extra ``[aws]``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

from .core.errors import ReadinessError

T = TypeVar("T")


def require(where: str, error: type[ReadinessError]) -> None:
    """Raise ``error`` about ``where`` if boto3 is not installed."""
    if find_spec("botocore") is None:
        raise error(
            "needs boto3, which is not installed", where=where, action="pip install 'pytest-readiness[aws]'"
        )


def aws_session() -> Any:
    """Return a new botocore session for a suite's own clients, without settings of an account.

    botocore's descriptions of the services are read once per process, because that takes longer than most
    checks; outside EC2 a runner waits at most a second for an instance's role. ReadinessError without boto3.
    """
    require("aws_session", ReadinessError)
    import botocore.session

    session = botocore.session.get_session()
    session.register_component("data_loader", _descriptions())
    # tried last, and absent on most runners
    session.set_config_variable("metadata_service_timeout", 1)
    session.set_config_variable("metadata_service_num_attempts", 1)
    return session


def in_time(call: Callable[[], T], within_s: float) -> T:
    """Return what ``call`` returns or raise what it raises; TimeoutError after ``within_s`` seconds.

    botocore limits connecting and each read, but not name look-ups, programs or services that provide
    credentials, or an answer that arrives in small pieces. A call that takes longer is left running in a
    thread, which ends with the process.
    """
    answers: list[T] = []
    problems: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(call())
        except BaseException as problem:
            problems.append(problem)

    worker = threading.Thread(target=work, daemon=True, name="readiness-aws")
    worker.start()
    worker.join(within_s)
    if problems:
        raise problems[0]
    if not answers:
        raise TimeoutError(f"no answer within {within_s:g} s")
    return answers[0]


@cache
def _descriptions() -> Any:
    """botocore's descriptions of the services, which contain no account's data."""
    from botocore.loaders import create_loader

    return create_loader()
