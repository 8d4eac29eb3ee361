"""What the operator of a download allows and knows, which no list and no parameter file says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mssync import log
from mssync.download import secrets
from mssync.download.addresses import Policy, environment_proxy
from mssync.download.secrets import Secrets


@dataclass(frozen=True)
class Access:
    """Where a download may connect, and with what.

    Attributes:
        policy: Addresses that may be reached.
        secrets: Cookies, proxy, headers.
    """

    policy: Policy = field(default_factory=Policy)
    secrets: Secrets = field(default_factory=Secrets)


def from_environment(environ: Mapping[str, str] = os.environ) -> Access:
    """What the environment says; from then on no secret in it is logged.

    Raises:
        InputError: If a variable or the file of secrets is of the wrong form.
    """
    known = secrets.load(environ)
    if not known.proxy:
        known = replace(known, proxy=environment_proxy(environ))
    access = Access(Policy.from_environment(environ), known)
    log.redact_with(access.secrets.redact)
    return access
