"""Listed files through the four data stages, and what each stage decided on each."""

from types import SimpleNamespace

from mssync.ledger import DECISIONS, read_decisions
from mssync.media.store import MediaStore
from mssync.stages import build_dataset, download_videos, extract_audio, extract_landmarks

STAGES = ("download_videos", "extract_landmarks", "extract_audio", "build_dataset")


def through(folder, sources, params, *, base):
    """Run the stages in a folder; too few clips are no failure.

    Returns:
        Where parts and dataset are, and `decided`: stage -> clip -> decision.
    """
    store, manifest = MediaStore(folder / "store"), folder / "manifest.parquet"
    lenient = {"min_success_ratio": 0.0}
    download_videos.run(
        sources,
        manifest,
        folder / "ledger" / "download_videos",
        params.download_videos.model_copy(update=lenient),
        store=store,
        workers=2,
        base=str(base),
    )
    shared = {"store": store, "workers": 2}
    extract_landmarks.run(
        manifest,
        folder / "landmarks",
        folder / "ledger" / "extract_landmarks",
        params.extract_landmarks.model_copy(update=lenient),
        device="cpu",
        **shared,
    )
    extract_audio.run(
        manifest,
        folder / "audio",
        folder / "ledger" / "extract_audio",
        params.extract_audio.model_copy(update=lenient),
        **shared,
    )
    build_dataset.run(
        manifest,
        folder / "landmarks",
        folder / "audio",
        folder / "ledger",
        folder / "dataset",
        folder / "card",
        # everybody is trained on: what each clip is worth, not what it shares with others
        params.build_dataset.model_copy(update={"val_ratio": 0.0, "test_ratio": 0.0}),
    )
    decided = {
        stage: {d.clip_id: d for d in read_decisions(folder / "ledger" / stage / DECISIONS)}
        for stage in STAGES
    }
    return SimpleNamespace(
        landmarks=folder / "landmarks",
        audio=folder / "audio",
        dataset=folder / "dataset",
        decided=decided,
    )


def outcome(decided, clip_id):
    """Stage and reason of the first rejection; None where the clip is kept."""
    for stage in STAGES:
        decision = decided[stage].get(clip_id)
        if decision and not decision.kept:
            return stage, decision.reason
    return None
