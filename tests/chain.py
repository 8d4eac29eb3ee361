"""The whole chain by hand, for tests of what is there after it."""

from mssync.demo.server import serve
from mssync.download.access import Access
from mssync.download.addresses import Policy
from mssync.media.store import MediaStore
from mssync.params import digest
from mssync.stages import (
    build_dataset,
    download_videos,
    evaluate,
    extract_audio,
    extract_landmarks,
    promote,
    train_generator,
    train_syncers,
)


def run_chain(folder, small_corpus, params):
    """Every stage once, in `folder`, as `dvc repro` would."""
    data, ledger, store = folder / "data", folder / "ledger", MediaStore(folder / "store")
    data.mkdir(exist_ok=True)
    (data / "sources.csv").write_bytes((small_corpus / "sources.csv").read_bytes())
    manifest, workers = data / "manifest.parquet", 2
    with serve(small_corpus) as url:
        download_videos.run(
            data / "sources.csv",
            manifest,
            ledger / "download_videos",
            params.download_videos,
            store=store,
            workers=workers,
            base=url,
            access=Access(policy=Policy(mirrors=("127.0.0.1",))),
        )
    shared = {"store": store, "workers": workers}
    extract_landmarks.run(
        manifest,
        data / "landmarks",
        ledger / "extract_landmarks",
        params.extract_landmarks,
        device="cpu",
        **shared,
    )
    extract_audio.run(
        manifest, data / "audio", ledger / "extract_audio", params.extract_audio, **shared
    )
    build_dataset.run(
        manifest,
        data / "landmarks",
        data / "audio",
        ledger,
        data / "dataset",
        data / "card",
        params.build_dataset,
    )
    models = folder / "models"
    shared = {"run": params.run, "paths": params.paths}
    train_syncers.run(
        data / "dataset",
        models / "syncers",
        params.train_syncers,
        params_hash=digest(params),
        **shared,
    )
    train_generator.run(
        data / "dataset",
        models / "syncers",
        models / "generator",
        params.train_generator,
        params_hash=digest(params),
        **shared,
    )
    evaluate.run(
        data / "dataset",
        models / "syncers",
        models / "generator",
        folder / "evaluation",
        params.evaluate,
        store=store,
        **shared,
    )
    promote.run(
        folder / "evaluation" / "metrics.json",
        folder / "promotion" / "decision.json",
        params.promote,
    )
