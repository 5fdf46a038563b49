"""AWS profiles: the keys, region and endpoint of a name in ~/.aws/credentials and ~/.aws/config.

Only profiles with keys of their own. SSO, roles and credential processes need AWS's own client, which writes what it
gets as environment variables when asked to; the errors here say how.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping

from facebatch.errors import UsageError

_KEYS = {"access_key_id": "aws_access_key_id", "secret_access_key": "aws_secret_access_key"}
_INDIRECT = ("sso_session", "sso_start_url", "role_arn", "credential_process", "login_session")


def read_profile(name: str, environment: Mapping[str, str], keys: bool = True) -> dict[str, str]:
    """access_key_id, secret_access_key, session_token, region and endpoint, as far as the profile has them.

    Raises UsageError where there is no such profile, or none with keys of its own while `keys` are asked for. Errors
    name files, never what is in them.
    """
    secrets_file = environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    config_file = environment.get("AWS_CONFIG_FILE") or "~/.aws/config"
    secrets, settings = _sections(secrets_file), _sections(config_file)
    config_name = name if name == "default" else f"profile {name}"
    if name not in secrets and config_name not in settings:
        raise UsageError(
            f"there is no AWS profile {name!r}: neither [{name}] in {secrets_file} nor [{config_name}] in {config_file}"
        )
    profile = settings.get(config_name, {}) | secrets.get(name, {})
    found = {key: profile[theirs] for key, theirs in _KEYS.items() if profile.get(theirs)}
    if keys and (len(found) < len(_KEYS) or "role_arn" in profile):
        indirect = [key for key in _INDIRECT if key in profile]
        raise UsageError(
            f"the AWS profile {name!r} has no keys of its own ({', '.join(indirect) or 'none at all'}); run "
            f'eval "$(aws configure export-credentials --profile {name} --format env)" and leave storage.profile and '
            "AWS_PROFILE unset"
        )
    services = _nested(settings.get(f"services {profile.get('services', '')}", {}).get("s3", ""))
    more = {
        "session_token": profile.get("aws_session_token"),
        "region": profile.get("region"),
        "endpoint": services.get("endpoint_url") or profile.get("endpoint_url"),
    }
    return found | {key: value for key, value in more.items() if value}


def _sections(file: str) -> dict[str, dict[str, str]]:
    """The sections of a file, {} where there is none."""
    # AWS's files know neither interpolation nor a section that all others inherit from.
    parser = configparser.RawConfigParser(default_section="\0", strict=False)
    try:
        with open(os.path.expanduser(file), encoding="utf-8") as lines:
            parser.read_file(lines)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        # The parser's own words quote the line, and with it perhaps a key.
        raise UsageError(f"{file} is no valid AWS file: {type(error).__name__}") from None
    return {" ".join(section.split()): dict(parser[section]) for section in parser.sections()}


def _nested(text: str) -> dict[str, str]:
    """The indented `key = value` lines below a key."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}
