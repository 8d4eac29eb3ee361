"""What tests of downloads share: a server that fails in every way, and one that is asked."""

import pytest

from mssync.download import web as web_module
from mssync.download.addresses import Policy, make_client
from mssync.download.budget import Budget
from mssync.download.secrets import Secrets
from tests.download.faults import serving


@pytest.fixture
def web():
    with serving() as server:
        yield server


@pytest.fixture
def params(tiny):
    """Patience for a busy machine; tests of impatience lower it."""
    return tiny.download_videos.model_copy(update={"timeout_s": 10.0, "min_bytes_per_s": 0.0})


@pytest.fixture
def policy():
    """Loopback is a mirror that is allowed."""
    return Policy(mirrors=("127.0.0.1",))


@pytest.fixture
def bring(store, params, policy):
    """`web.fetch` with all it needs; named arguments replace parameters, or what it is given."""
    store.folder.mkdir(parents=True, exist_ok=True)

    def fetch(
        url, *, secrets=None, admit=None, known=None, budget=None, client=None, proxy="", **changes
    ):
        changed = params.model_copy(update=changes)
        own = client or make_client(policy, timeout_s=changed.timeout_s, connections=2, proxy=proxy)
        try:
            return web_module.fetch(
                url,
                store,
                client=own,
                params=changed,
                policy=policy,
                secrets=secrets or Secrets(),
                budget=budget or Budget(changed, store.folder),
                admit=admit or (lambda host: None),
                known=known,
            )
        finally:
            if not client:
                own.close()

    return fetch


@pytest.fixture
def client(policy):
    """One client for several downloads."""
    with make_client(policy, timeout_s=10.0, connections=2) as client:
        yield client
