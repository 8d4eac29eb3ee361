"""First step: check all that can be checked, whether there is work to do, and cut the list."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def shard(
    workspace: str,
    sources: str,
    source_base: str,
    shards: int,
    repeat: bool,
    apply_promotion: bool,
    dvc_remote: str,
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
    params_hash: dsl.OutputPath(str),  # type: ignore[valid-type]
    base: dsl.OutputPath(str),  # type: ignore[valid-type]
) -> str:
    """Check the parameters and the list, and write each shard's part of it if there is work to do.

    Args:
        workspace: Folder that all steps share.
        sources: The list: a path, or a URL that fsspec knows (`https://`, `s3://`).
        source_base: Folder or URL that relative sources start from; empty: where the list is.
        shards: Number of shards that the graph was compiled for.
        repeat: Work also if the last finished run was given the same.
        apply_promotion: What the run was told, to know whether it is the same.
        dvc_remote: The same.
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
        params_hash: Digest of all parameters.
        base: Folder or URL that relative sources start from.

    Returns:
        `work`, or `nothing` where the last finished run was given the same.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("shard", workspace):
        from pathlib import Path

        from mssync import finished
        from mssync import shards as cutting
        from mssync.lists.placing import fetch_list
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
        digested = digest(params)
        write_text(Path("params.yaml"), text(params))
        found = fetch_list(sources, cutting.SOURCES, base=source_base)
        given = finished.inputs(
            Path(),
            sources=cutting.SOURCES,
            takedown=cutting.TAKEDOWN,
            source_base=found,
            params=digested,
            settings=f"{int(shards)} shards, apply {apply_promotion}, remote {dvc_remote}",
        )
        like = finished.begin(Path(), given, repeat=repeat)
        if not like:
            cutting.cut(cutting.SOURCES, Path(), int(shards), base=found)
        write_text(Path(params_hash), digested)
        write_text(Path(base), found)
    return "nothing" if like else "work"
