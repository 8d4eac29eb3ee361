"""Deciding on every clip from the extraction stages' ledgers and the evidence."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from mssync.errors import InputError
from mssync.ledger import DECISIONS, Decision, merge_decisions
from mssync.params import BuildDataset
from mssync.selection import rules
from mssync.selection.evidence import Evidence

EXTRACTION_STAGES = ("extract_landmarks", "extract_audio")


def verdicts(
    ledger: Path, evidence: Mapping[str, Evidence], params: BuildDataset
) -> Iterator[Decision]:
    """Decide on every clip that the extraction stages decided on, in the order of their ids.

    Args:
        ledger: Folder of all stages' ledgers; nothing is written.
        evidence: As `mssync.selection.evidence.gather` gives it.
        params: Every threshold.

    Raises:
        InputError: If an input is missing or of the wrong form, or they are of different runs.
    """
    found = merge_decisions(ledger / stage / DECISIONS for stage in EXTRACTION_STAGES)
    for clip_id, group in groupby(found, key=lambda decision: decision.clip_id):
        before = list(group)
        kept = all(decision.kept for decision in before)
        known = evidence.get(clip_id)
        extracted = known is not None and known.audio is not None
        if len(before) < len(EXTRACTION_STAGES) or (kept and not extracted):
            raise InputError(
                f"{clip_id} was not decided, or its parts not written, by both extraction stages: "
                "run extract-landmarks and extract-audio again"
            )
        yield rules.decide(clip_id, before, known.known if known else None, params)
