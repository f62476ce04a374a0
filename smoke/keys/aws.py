"""The AWS APIs that the key commands ask, and what their refusals mean."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytest_readiness import ExternalOutage, SetupError

from .errors import Conflict, KeyFault, MissingSecret, MissingVersion, told

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
#: At the level DEBUG these log the parameters of every call, and so the keys.
_TALKATIVE = ("boto3", "botocore", "urllib3")
_DENIED = ("AccessDenied", "UnauthorizedOperation", "NotAuthorized", "UnauthorizedAccess")
_CREDENTIALS = (
    "ExpiredToken",
    "RequestExpired",
    "UnrecognizedClient",
    "InvalidClientTokenId",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "AuthFailure",
)
_CONFLICT = ("InvalidParameterException", "InvalidRequestException")
_OUTAGE = (
    "Throttling",
    "TooManyRequests",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "InternalFailure",
    "InternalServiceError",
    "InternalServerError",
    "InternalError",
)


class Aws:
    """Clients of one region, made when they are first asked for."""

    def __init__(self, region: str, endpoint: str = "") -> None:
        self.region = region
        self._endpoint = endpoint
        self._clients: dict[str, Any] = {}
        self._session: Any = None

    def client(self, name: str) -> Any:
        """The boto3 client of a service; SetupError when the runner is not configured for AWS."""
        if name not in self._clients:
            with asking(f"{name}:*", f"region {self.region or 'unset'}"):
                self._clients[name] = self._connect(name)
        return self._clients[name]

    def _connect(self, name: str) -> Any:
        import boto3  # takes a third of a second to import
        import botocore.config
        import botocore.session

        for talkative in _TALKATIVE:
            logging.getLogger(talkative).setLevel(logging.INFO)
        if self._session is None:
            session = botocore.session.get_session()
            # the metadata service is the last place that is asked, and does not exist on most runners
            session.set_config_variable("metadata_service_timeout", 1)
            session.set_config_variable("metadata_service_num_attempts", 1)
            self._session = boto3.Session(botocore_session=session, region_name=self.region or None)
        return self._session.client(
            name,
            endpoint_url=self._endpoint or None,
            config=botocore.config.Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": 3},
            ),
        )


@contextmanager
def asking(permission: str, resource: str, *, conflicts: bool = False) -> Iterator[None]:
    """Translate what AWS answers inside the block.

    ``permission`` is the IAM action that the call needs. SetupError names what the runner lacks,
    ExternalOutage the signal that AWS gave, MissingSecret and MissingVersion what is not there; where
    ``conflicts`` are possible, Conflict means that somebody else moved a label first. Raised without their
    cause: botocore quotes parameters.
    """
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as problem:
        code = str(problem.response.get("Error", {}).get("Code", "?"))
        if conflicts and code in _CONFLICT:
            raise Conflict(f"{resource}: {code} on {permission}") from None
        translated = _of_code(code, problem.response, permission, resource)
    except (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
        botocore.exceptions.NoRegionError,
        botocore.exceptions.ProfileNotFound,
        botocore.exceptions.CredentialRetrievalError,
        botocore.exceptions.TokenRetrievalError,
        botocore.exceptions.SSOError,
    ) as problem:
        translated = SetupError(
            told(
                f"{type(problem).__name__}: AWS cannot be asked",
                where=resource,
                allowed=f"credentials that may {permission}, and a region",
                action="set AWS_PROFILE, or AWS_ACCESS_KEY_ID with its secret, for this runner",
            )
        )
    except (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError) as problem:
        translated = SetupError(
            told(
                f"{type(problem).__name__}: AWS did not answer {permission}",
                where=resource,
                action="check this runner's network, and aws.region and aws.endpoint_url of the profile",
            )
        )
    except botocore.exceptions.BotoCoreError as problem:
        translated = SetupError(
            told(
                f"{type(problem).__name__} on {permission}",
                where=resource,
                action="check the aws section of the profile",
            )
        )
    else:
        return
    raise translated


def _of_code(code: str, response: Any, permission: str, resource: str) -> Exception:
    message = str(response.get("Error", {}).get("Message", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code.startswith(_DENIED):
        return _denied(code, message, permission, resource)
    if code.startswith(_CREDENTIALS):
        return SetupError(
            told(
                f"{code} on {permission}",
                where=resource,
                action="renew this runner's AWS credentials, or correct aws.region",
            )
        )
    if code.startswith(_OUTAGE) or status >= 500:
        return ExternalOutage(
            told(
                f"{code}: AWS is not serving {permission}",
                where=resource,
                action="run it again later; nothing was concluded",
            )
        )
    if code == "DecryptionFailure":
        return _denied(code, "KMS", permission, resource)
    if code == "ResourceNotFoundException":
        return _not_found(message, resource)
    if "deletion" in message:
        return MissingSecret(
            "the secret is marked for deletion",
            where=resource,
            action=f"aws secretsmanager restore-secret --secret-id {resource}",
        )
    return SetupError(
        told(f"{code} on {permission}", where=resource, action="look the code up, then run it again")
    )


def _denied(code: str, message: str, permission: str, resource: str) -> SetupError:
    needed = "kms:Decrypt and kms:GenerateDataKey on the secret's KMS key" if "KMS" in message else permission
    return SetupError(
        told(f"{code}: this runner may not {needed}", where=resource, action=f"grant it {needed}")
    )


def _not_found(message: str, resource: str) -> KeyFault:
    if "version" in message or "staging label" in message:
        return MissingVersion("the secret has no such version", where=resource)
    return MissingSecret(
        "the secret does not exist",
        where=resource,
        action="create it (terraform apply), or correct aws.region and aws.prefix of the profile",
    )
