"""Does the server ask that what it sends is not used for training?

Two signals are honoured, in any answer on the way to a file:

- `X-Robots-Tag: noai` or `noimageai`, the directives that img2dataset honours. A directive behind
  `agent:` counts only where the agent is ours or `*`.
- `TDM-Reservation: 1`, of the W3C community group's TDM Reservation Protocol.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mssync.errors import ClipRejectedError

AGENT = "mssync"

_DIRECTIVES = frozenset({"noai", "noimageai"})
# What stands before a colon and is no agent.
_WITH_VALUE = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)
_AGENT = re.compile(r"\s*([a-z*][^:]*?)\s*:(.*)", re.DOTALL)
_MOST_QUOTED_CHARACTERS = 200


def check(headers: Mapping[str, str], *, agent: str = AGENT) -> None:
    """Raise if the headers of an answer ask not to be used for training.

    Args:
        headers: Of one answer; those of one name may come as several items (`httpx.Headers`,
            `http.client.HTTPMessage`) or joined by commas.
        agent: The name that we answer to.

    Raises:
        ClipRejectedError: `opt_out`, with what the header said.
    """
    for name, value in _items(headers):
        lowered = name.lower()
        if lowered == "x-robots-tag":
            refused = any(found in _DIRECTIVES for found in _directives(value.lower(), agent))
        else:
            refused = lowered == "tdm-reservation" and "1" in re.split(r"[\s,]+", value)
        if refused:
            said = f"{name}: {value.strip()}"
            if len(said) > _MOST_QUOTED_CHARACTERS:
                said = said[:_MOST_QUOTED_CHARACTERS] + "..."
            raise ClipRejectedError("opt_out", f"the server said {said!r}")


def _items(headers: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - duck-typed, see check()
    """Every header, also those whose name comes twice."""
    # httpx joins headers of one name in items(), and an agent would then reach into the next one
    yield from headers.multi_items() if hasattr(headers, "multi_items") else headers.items()


def _directives(value: str, agent: str) -> Iterator[str]:
    """The directives of one header that are meant for us."""
    ours = True
    for part in value.split(","):
        directive = part.strip()
        found = _AGENT.fullmatch(directive)
        if found and found[1] not in _WITH_VALUE:
            # an agent holds until the next one
            ours = found[1] in {agent.lower(), "*"}
            directive = found[2].strip()
        if ours:
            yield directive
