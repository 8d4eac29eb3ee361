"""How do sections of a video on a web video site come into the store?

yt-dlp finds out where the media are, in a child process whose only way to the network is our
filtering proxy. Only the sections come over the wire. What is copied begins at a key frame; a
second child, as for all media of strangers, decodes it and cuts it at the frame.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path

from mssync.download.addresses import Policy
from mssync.download.budget import Budget
from mssync.download.proxy import filtering_proxy
from mssync.download.secrets import Secrets
from mssync.download.site_child import Fetched, Order, fetch, too_slow
from mssync.download.site_errors import Failure
from mssync.download.site_pieces import Section
from mssync.errors import ClipRejectedError, ToolError
from mssync.lists.locations import SITE_PREFIX, site_name
from mssync.media import ffmpeg
from mssync.media.sandbox import Sandbox, SandboxPool
from mssync.media.store import MediaStore, Origin, Provenance
from mssync.params import DownloadVideos
from mssync.timing import milliseconds

Sandboxed = Sandbox | SandboxPool

# yt-dlp's interpreters of JavaScript reserve address space that they never use.
MEMORY_BYTES = 16 << 30
_PAGES = 20  # requests that may wait for an answer and for each other, until the media are known
_SLOWEST = 10.0  # a section may take this many times its length
_START_S = 60.0  # for each section besides
_GRACE_S = 15.0  # the child ends by itself; if not, it is killed
_PATIENCE_S = 5.0  # the proxy waits for longer than those who use it, so that they say what failed
_CUT_S_PER_S = 20.0  # most seconds of work on a second of video


def section_key(url: str, section: tuple[float, float | None], params: DownloadVideos) -> str:
    """What a section is remembered by in the store.

    Args:
        url: Of the page.
        section: Start and end, seconds.
        params: The stage's section.
    """
    start_s, end_s = section
    span = f"{milliseconds(start_s)}-{'' if end_s is None else milliseconds(end_s)}"
    return f"site:{url}:{params.site_format}:{span}:{sorted(ffmpeg.CUT_OPTIONS.items())}"


def fetch_sections(
    url: str,
    sections: Sequence[tuple[float, float | None]],
    store: MediaStore,
    *,
    params: DownloadVideos,
    secrets: Secrets,
    policy: Policy,
    budget: Budget,
    sandbox: Sandboxed | None = None,
    cutter: Sandboxed | None = None,
) -> list[Origin | ClipRejectedError]:
    """Bring sections of one video into the store; the page is read once for all of them.

    Args:
        url: Of the page; `yt-dlp+` before it is dropped.
        sections: Start and end of each, seconds; an end of None is that of the video. The video
            as a whole, (0, None), is stored as it comes; a section is encoded anew, so that it
            begins at the frame.
        store: Where they go.
        params: The stage's section.
        secrets: Cookies and the like.
        policy: What may be connected to.
        budget: Counts what is received.
        sandbox: Where yt-dlp runs, of `MEMORY_BYTES`; None: a process of its own.
        cutter: Where sections are cut; None: a process of its own.

    Returns:
        For each section what was fetched, or why not.
    """
    address = url[len(SITE_PREFIX) :] if url.lower().startswith(SITE_PREFIX) else url
    keys = [section_key(url, section, params) for section in sections]
    order = Order(
        url=address,
        sections=[Section(start, end, params.max_duration_s) for start, end in sections],
        targets=[store.partial(f"{key}:piece") for key in keys],
        params=params.model_copy(update={"run_bytes": budget.left}),
        secrets=secrets,
        proxy="",
        folder=store.folder,
        pause_s=1.0 / params.hosts.get(site_name(url), params.per_host).requests_per_s,
    )
    try:
        policy.check_url(address)
        budget.expect(-1)
        with ExitStack() as opened:
            for target in order.targets:
                opened.callback(target.unlink, missing_ok=True)
            sandbox = sandbox or opened.enter_context(Sandbox(memory_bytes=MEMORY_BYTES))
            fetched = _fetch(order, policy, sandbox)
            with suppress(ClipRejectedError):  # what has come is kept; nothing more is begun
                budget.receive(fetched.received_bytes, total=0)
            cutter = cutter or opened.enter_context(Sandbox(memory_bytes=params.probe_bytes))
            return [
                _keep(number, key, order, fetched, store, cutter) for number, key in enumerate(keys)
            ]
    except ClipRejectedError as error:
        return [error] * len(sections)


def _fetch(order: Order, policy: Policy, sandbox: Sandboxed) -> Fetched:
    """Have the child fetch; causes are the true ones."""
    wall_s = _wall_s(order)
    proxy_s = order.params.timeout_s + _PATIENCE_S
    with filtering_proxy(policy, upstream=order.secrets.proxy, timeout_s=proxy_s) as proxy:
        begun = time.monotonic()
        order = replace(order, proxy=proxy.url)
        try:
            fetched = sandbox.call(fetch, order, wall_s, wall_s=wall_s + _GRACE_S)
        except ClipRejectedError as error:
            late = error.reason == "too_costly" and time.monotonic() > begun + wall_s
            failure = Failure(too_slow() if late else error)
            size = sum(target.stat().st_size for target in order.targets if target.exists())
            fetched = Fetched([failure] * len(order.targets), Provenance(), size)
        refusals = proxy.refusals
    return replace(fetched, pieces=[_true_cause(piece, refusals) for piece in fetched.pieces])


def _true_cause(
    piece: float | Failure, refusals: Mapping[str, ClipRejectedError]
) -> float | Failure:
    """What our proxy knows better, because it was the one that did not reach the host."""
    if not isinstance(piece, Failure) or not piece.host or not refusals:
        return piece
    # where a redirect led to is not known to the child: it was asked last
    return Failure(refusals.get(piece.host) or list(refusals.values())[-1])


def _keep(
    number: int, key: str, order: Order, fetched: Fetched, store: MediaStore, cutter: Sandboxed
) -> Origin | ClipRejectedError:
    """Cut what was fetched for a section, and store it."""
    lead_s, section, file = fetched.pieces[number], order.sections[number], order.targets[number]
    try:
        if isinstance(lead_s, Failure):
            raise lead_s.error
        if not section.is_whole:
            file = _cut(file, store.partial(f"{key}:cut"), lead_s, section, order.params, cutter)
    except ClipRejectedError as error:
        message = order.secrets.redact(str(error))
        return ClipRejectedError(error.reason, message, wait_s=error.wait_s)
    size = file.stat().st_size
    origin = Origin(store.adopt(file), size, "", fetched.provenance)
    store.remember(key, origin)
    return origin


def _cut(
    piece: Path,
    target: Path,
    lead_s: float,
    section: Section,
    params: DownloadVideos,
    cutter: Sandboxed,
) -> Path:
    length_s = section.most_s if section.end_s is None else section.end_s - section.start_s
    end_s = None if section.end_s is None else lead_s + length_s
    cut = partial(ffmpeg.cut, start_s=lead_s, end_s=end_s, max_pixels=params.max_pixels)
    try:
        cutter.call(cut, piece, target, wall_s=params.probe_s + _CUT_S_PER_S * length_s)
    except ClipRejectedError:
        target.unlink(missing_ok=True)
        raise
    except ToolError as error:
        target.unlink(missing_ok=True)
        raise ClipRejectedError("corrupt", f"the section cannot be cut: {error}") from error
    return target


def _wall_s(order: Order) -> float:
    """Longest time for all sections of a video.

    Each page may take as long as a server may be silent. Media slower than `min_bytes_per_s` end
    earlier; this bounds what drips just faster than that.
    """
    pages_s = _PAGES * (order.params.timeout_s + order.pause_s)
    media_s = sum(
        _START_S
        + _SLOWEST * (min(section.end_s or inf, section.start_s + section.most_s) - section.start_s)
        for section in order.sections
    )
    return pages_s + media_s
