"""First step: check everything that can be checked, and cut the list."""

from typing import Any, NamedTuple

from components._base import step


@step
def shard(
    workspace: str,
    sources: str,
    source_base: str,
    shards: int,
    run: dict[str, Any],
    paths: dict[str, Any],
    download_videos: dict[str, Any],
    extract_landmarks: dict[str, Any],
    extract_audio: dict[str, Any],
    build_dataset: dict[str, Any],
    train_syncers: dict[str, Any],
    train_generator: dict[str, Any],
    evaluate: dict[str, Any],
    promote: dict[str, Any],
) -> NamedTuple("Outputs", [("params_hash", str), ("source_base", str)]):  # type: ignore[valid-type]
    """Check the parameters and the list, and write each shard's part of the list.

    Args:
        workspace: Folder that all steps share.
        sources: The list: a path, or a URL that fsspec knows (`https://`, `s3://`).
        source_base: Folder or URL that relative sources start from; empty: where the list is.
        shards: Number of shards that the graph was compiled for.
        run: The section of that name of the parameters.
        paths: The same.
        download_videos: The same.
        extract_landmarks: The same.
        extract_audio: The same.
        build_dataset: The same.
        train_syncers: The same.
        train_generator: The same.
        evaluate: The same.
        promote: The same.

    Returns:
        Digest of all parameters; where relative sources start from.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("shard", workspace):
        from pathlib import Path

        from mssync import shards as cutting
        from mssync.lists.sources import fetch_list
        from mssync.params import Params, digest, text, validate
        from mssync.records import write_text

        sections = {
            "run": run,
            "paths": paths,
            "download_videos": download_videos,
            "extract_landmarks": extract_landmarks,
            "extract_audio": extract_audio,
            "build_dataset": build_dataset,
            "train_syncers": train_syncers,
            "train_generator": train_generator,
            "evaluate": evaluate,
            "promote": promote,
        }
        params = validate(Params, sections, name="the pipeline's input")
        params_hash = digest(params)
        write_text(Path("params.yaml"), text(params))
        base = fetch_list(sources, Path("data/sources.csv"), base=source_base)
        cutting.cut(Path("data/sources.csv"), Path(), int(shards), base=base)
    return params_hash, base
