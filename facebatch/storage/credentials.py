"""Credentials: what the driver has, gathered once, so that workers on other machines have it too.

The workers of a Ray cluster that was there before have neither the driver's environment nor its files. What is gathered
here travels inside the pickled Storage and nowhere else. What the driver does not have, the worker looks for itself, in
its environment and from its instance's role. Where both have something, the driver's wins.

What stays behind: variables that name files or addresses of one machine (web identity tokens, container roles) and
the login of `gcloud auth application-default login`, unless GOOGLE_APPLICATION_CREDENTIALS names it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from facebatch.config import Storage as Options
from facebatch.errors import UsageError
from facebatch.storage.profile import read_profile

_VARIABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "s3": {
            "access_key_id": ("AWS_ACCESS_KEY_ID",),
            "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
            "session_token": ("AWS_SESSION_TOKEN", "AWS_TOKEN"),
            "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
            "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
            "virtual_hosted_style_request": ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST",),
            "request_payer": ("AWS_REQUEST_PAYER",),
            "skip_signature": ("AWS_SKIP_SIGNATURE",),
            "unsigned_payload": ("AWS_UNSIGNED_PAYLOAD",),
            "server_side_encryption": ("AWS_SERVER_SIDE_ENCRYPTION",),
            "sse_kms_key_id": ("AWS_SSE_KMS_KEY_ID",),
            "sse_bucket_key_enabled": ("AWS_SSE_BUCKET_KEY_ENABLED",),
            "sse_customer_key_base64": ("AWS_SSE_CUSTOMER_KEY_BASE64",),
        },
        "gs": {
            "service_account_key": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
            "bearer_token": ("GOOGLE_BEARER_TOKEN",),
            "base_url": ("GOOGLE_BASE_URL",),
            "skip_signature": ("GOOGLE_SKIP_SIGNATURE",),
        },
        "az": {
            "account_name": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
            "account_key": (
                "AZURE_STORAGE_ACCOUNT_KEY",
                "AZURE_STORAGE_ACCESS_KEY",
                "AZURE_STORAGE_MASTER_KEY",
                "AZURE_STORAGE_KEY",
            ),
            "sas_key": ("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN"),
            "token": ("AZURE_STORAGE_TOKEN",),
            "client_id": ("AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID"),
            "client_secret": ("AZURE_STORAGE_CLIENT_SECRET", "AZURE_CLIENT_SECRET"),
            "tenant_id": (
                "AZURE_STORAGE_TENANT_ID",
                "AZURE_STORAGE_AUTHORITY_ID",
                "AZURE_TENANT_ID",
                "AZURE_AUTHORITY_ID",
            ),
            "authority_host": ("AZURE_STORAGE_AUTHORITY_HOST", "AZURE_AUTHORITY_HOST"),
            "credential_type": ("AZURE_CREDENTIAL_TYPE",),
            "endpoint": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
            "use_emulator": ("AZURE_STORAGE_USE_EMULATOR",),
            "skip_signature": ("AZURE_SKIP_SIGNATURE",),
        },
    }
)
"""What obstore calls a setting, and the variables for it, its own and then those of Azure's command line; the first
that is set counts."""

GOOGLE_FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "service_account": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"),
        "application_credentials": ("GOOGLE_APPLICATION_CREDENTIALS",),
    }
)
"""Settings that are paths of files. What travels is the content."""

_IDENTITY = ("access_key_id", "secret_access_key", "session_token")
_SHORTEST = 8
"""Shorter values are words that occur in any sentence, and no secrets."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Settings by kind of storage (s3, gs, az, fsspec). Shows their names; whoever wants a value has to ask for it."""

    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why something could not be gathered, by kind. No matter to who uses another kind."""

    def of(self, kind: str) -> dict[str, str]:
        """The settings of one kind. Raises UsageError where gathering them failed."""
        if kind in self.problems:
            raise UsageError(self.problems[kind])
        return dict(self.values.get(kind, {}))

    def hide(self, text: str) -> str:
        """The text without any of the values, or of those in a JSON file among them, which parsers like to quote."""
        secrets = [value for settings in self.values.values() for value in settings.values()]
        for secret in (*secrets, *chain.from_iterable(map(_strings, secrets))):
            if len(secret) >= _SHORTEST:
                text = text.replace(secret, "***")
        return text

    def __repr__(self) -> str:
        names = (f"{kind}.{key}" for kind, settings in self.values.items() for key in settings)
        return f"Credentials({', '.join(names)})"


def gather(options: Options, environment: Mapping[str, str] | None = None) -> Credentials:
    """What this process was given, from its environment and from the AWS profile.

    `storage.profile` wins over keys in the environment; AWS_PROFILE counts only where the environment has no keys. A
    region or an endpoint in the environment wins over the profile's, as in AWS's own tools.
    """
    given = os.environ if environment is None else environment
    values = {kind: _first_set(settings, given) for kind, settings in _VARIABLES.items()}
    problems = {}
    profile = options.profile or ("" if given.get("AWS_ACCESS_KEY_ID") else given.get("AWS_PROFILE"))
    try:
        if profile:
            others = {key: value for key, value in values["s3"].items() if key not in _IDENTITY}
            values["s3"] = read_profile(profile, given, keys=not options.anonymous) | others
    except UsageError as error:
        problems["s3"] = str(error)
    try:
        values["gs"] |= {key: _content(path) for key, path in _first_set(GOOGLE_FILES, given).items()}
    except UsageError as error:
        problems["gs"] = str(error)
    values["fsspec"] = {name: value for name, value in given.items() if name.startswith("FSSPEC_")}
    return Credentials({kind: settings for kind, settings in values.items() if settings}, problems)


def _first_set(settings: Mapping[str, tuple[str, ...]], given: Mapping[str, str]) -> dict[str, str]:
    found = ((key, next((given[name] for name in names if given.get(name)), "")) for key, names in settings.items())
    return {key: value for key, value in found if value}


def _strings(content: str) -> list[str]:
    """The values of a JSON object; none for what is no JSON."""
    try:
        tree = json.loads(content)
    except ValueError:
        return []
    return [value for value in tree.values() if isinstance(value, str)] if isinstance(tree, dict) else []


def _content(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"the credentials of Google in {path} cannot be read: {reason}") from None
