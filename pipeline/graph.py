"""The graph: the list cut into shards, three data steps for each, then the chain.

A run that is given what the last finished one was given ends after its first step.

Shards are unrolled when the graph is compiled: plain tasks get the retries, the exit handler and
the status that a loop's iterations do not get on the engine.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

import components.build_dataset
import components.download_videos
import components.evaluate
import components.extract_audio
import components.extract_landmarks
import components.promote
import components.train_generator
import components.train_syncers
from mssync.errors import InputError
from mssync.params import Params
from mssync.steps import Shard
from pipeline import resources
from pipeline.steps.gather import gather
from pipeline.steps.notify import notify
from pipeline.steps.publish import publish
from pipeline.steps.shard import shard

NAME = "mssync"
MAX_SHARDS = 64
DATA_STAGES = ("download_videos", "extract_landmarks", "extract_audio")


@dataclass(frozen=True)
class Target:
    """Where the graph is to run.

    Attributes:
        image: Image of every step.
        environment: Variables of every step, fixed when the graph is compiled.
        table: What every step asks of a cluster; None for a local runner, which has no claims,
            secrets or retries either.
    """

    image: str
    environment: Mapping[str, str] = field(default_factory=dict)
    table: resources.Table | None = None


def check_shards(count: int) -> None:
    """Refuse a number of shards that cannot be.

    Raises:
        InputError: If there are too few or too many.
    """
    if not 1 <= count <= MAX_SHARDS:
        raise InputError(f"a list is cut into 1 to {MAX_SHARDS} shards, found {count}")


def reports(shards: int) -> list[str]:
    """Names of the reports that the steps of a whole run leave, but that of the exit handler."""
    parts = [f"{name}-{Shard(index, shards)}" for name in DATA_STAGES for index in range(shards)]
    return [*parts, *sorted(resources.steps() - {*DATA_STAGES, "notify"})]


def build(params: Params, target: Target, *, shards: int) -> Callable[..., Any]:
    """Make the pipeline; the parameters become the defaults of its inputs.

    Args:
        params: The whole file.
        target: Where it is to run.
        shards: Parts that the list is cut into, at most `MAX_SHARDS`.

    Raises:
        InputError: If there are too few or too many shards, or no image is named.
    """
    check_shards(shards)
    if not re.fullmatch(r"[\w.][\w.:/-]*(@sha256:[0-9a-f]{64})?", target.image):
        raise InputError(
            "expected NAME:TAG or NAME@sha256: and 64 digits as image, found "
            f"{target.image!r} (IMAGE=..., --image)"
        )
    defaults = params.model_dump(mode="json")

    def spread(name: str) -> dict[str, Any]:
        return resources.spread(name, target.image, target.table, params)

    def ready(task: PipelineTask, name: str, label: str = "") -> PipelineTask:
        task.set_container_image(target.image)
        # what a step wrote lies in the workspace, where the engine does not look whether it is
        # still there; the stages themselves do, and skip what is done
        task.set_caching_options(enable_caching=False)
        for variable, value in target.environment.items():
            task.set_env_variable(variable, value)
        if target.table:
            task.set_display_name(label or name.replace("_", "-"))
            resources.ask(task, name, target.table, params)
        return task

    @dsl.pipeline(name=NAME)
    def mssync(
        sources: str,
        workspace: str = resources.WORKSPACE,
        source_base: str = "",
        apply_promotion: bool = False,
        dvc_remote: str = "",
        repeat: bool = False,
        run: dict[str, Any] = defaults["run"],
        paths: dict[str, Any] = defaults["paths"],
        download_videos: dict[str, Any] = defaults["download_videos"],
        extract_landmarks: dict[str, Any] = defaults["extract_landmarks"],
        extract_audio: dict[str, Any] = defaults["extract_audio"],
        build_dataset: dict[str, Any] = defaults["build_dataset"],
        train_syncers: dict[str, Any] = defaults["train_syncers"],
        train_generator: dict[str, Any] = defaults["train_generator"],
        evaluate: dict[str, Any] = defaults["evaluate"],
        promote: dict[str, Any] = defaults["promote"],
    ) -> None:
        """Talking-head videos to an evaluated landmark generator.

        Args:
            sources: The list of videos: a path in the workspace, or a URL.
            workspace: Folder that all steps share.
            source_base: Folder or URL that relative sources start from; empty: where the list is.
            apply_promotion: Write a promotion into the model registry.
            dvc_remote: Where the version of the data is pushed (`s3://...`); empty: nowhere.
            repeat: Work also if nothing changed since the last finished run of the workspace.
            run: Seed, device, threads, workers.
            paths: MLflow store, experiment, name of the registered model.
            download_videos: Fetching and cutting.
            extract_landmarks: Finding the face and following its landmarks.
            extract_audio: Log mel energies and MFCC.
            build_dataset: Joining, filtering, normalising, splitting.
            train_syncers: Guides and evaluators.
            train_generator: The landmark generator and its critics.
            evaluate: Scores, plots, gallery.
            promote: When a challenger replaces the champion.
        """
        with dsl.ExitHandler(
            ready(notify(workspace=workspace, paths=paths), "notify"), name="chain"
        ):
            cut = ready(
                shard(
                    workspace=workspace,
                    sources=sources,
                    source_base=source_base,
                    shards=shards,
                    repeat=repeat,
                    apply_promotion=apply_promotion,
                    dvc_remote=dvc_remote,
                    run=run,
                    paths=paths,
                    download_videos=download_videos,
                    extract_landmarks=extract_landmarks,
                    extract_audio=extract_audio,
                    build_dataset=build_dataset,
                    train_syncers=train_syncers,
                    train_generator=train_generator,
                    evaluate=evaluate,
                    promote=promote,
                ),
                "shard",
            )
            with dsl.If(cut.outputs["Output"] == "work", name="work"):
                extracted = []
                for index in range(shards):
                    part = str(Shard(index, shards))
                    fetched = ready(
                        components.download_videos.download_videos(
                            workspace=workspace,
                            shard=part,
                            source_base=cut.outputs["base"],
                            params=download_videos,
                            run=run,
                        ),
                        "download_videos",
                        f"download-videos {part}",
                    )
                    for name, extract, section in (
                        (
                            "extract_landmarks",
                            components.extract_landmarks.extract_landmarks,
                            extract_landmarks,
                        ),
                        ("extract_audio", components.extract_audio.extract_audio, extract_audio),
                    ):
                        task = extract(
                            workspace=workspace,
                            shard=part,
                            manifest=fetched.outputs["manifest"],
                            params=section,
                            run=run,
                        )
                        label = f"{name.replace('_', '-')} {part}"
                        extracted.append(ready(task, name, label))
                gathered = ready(
                    gather(
                        workspace=workspace,
                        shards=shards,
                        download_videos=download_videos,
                        extract_landmarks=extract_landmarks,
                        extract_audio=extract_audio,
                    ).after(*extracted),
                    "gather",
                )
                dataset = ready(
                    components.build_dataset.build_dataset(
                        workspace=workspace,
                        manifest=gathered.outputs["manifest"],
                        landmarks=gathered.outputs["landmarks"],
                        audio=gathered.outputs["audio"],
                        params=build_dataset,
                        run=run,
                    ),
                    "build_dataset",
                ).outputs["dataset"]
                published = ready(
                    publish(workspace=workspace, dataset=dataset, remote=dvc_remote), "publish"
                )
                syncers = ready(
                    components.train_syncers.train_syncers(
                        workspace=workspace,
                        dataset=dataset,
                        params=train_syncers,
                        run=run,
                        paths=paths,
                        params_hash=cut.outputs["params_hash"],
                        launch=spread("train_syncers"),
                    ).after(published),
                    "train_syncers",
                ).outputs["syncers"]
                generator = ready(
                    components.train_generator.train_generator(
                        workspace=workspace,
                        dataset=dataset,
                        syncers=syncers,
                        params=train_generator,
                        run=run,
                        paths=paths,
                        params_hash=cut.outputs["params_hash"],
                        launch=spread("train_generator"),
                    ),
                    "train_generator",
                ).outputs["generator"]
                scores = ready(
                    components.evaluate.evaluate(
                        workspace=workspace,
                        dataset=dataset,
                        syncers=syncers,
                        generator=generator,
                        params=evaluate,
                        run=run,
                        paths=paths,
                    ),
                    "evaluate",
                ).outputs["scores"]
                ready(
                    components.promote.promote(
                        workspace=workspace,
                        scores=scores,
                        params=promote,
                        paths=paths,
                        apply=apply_promotion,
                    ),
                    "promote",
                )

    pipeline: Callable[..., Any] = mssync
    return pipeline
