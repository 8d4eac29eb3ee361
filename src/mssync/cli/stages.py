"""One command per stage: load the parameters, call `run`, nothing else."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mssync.cli.options import (
    PARAMS,
    Dataset,
    Generator,
    Ledger,
    Manifest,
    ParamsFile,
    StageLedger,
    Syncers,
)
from mssync.errors import InputError
from mssync.params import digest, load, validate


def download_videos(
    sources: Annotated[
        Path, typer.Option(help="List of sources: .csv, .jsonl or .parquet (docs/sources.md).")
    ],
    manifest: Annotated[
        Path, typer.Option(help="Manifest to write; provenance.parquet is written beside it.")
    ],
    ledger: StageLedger,
    takedown: Annotated[
        Path | None, typer.Option(help="List of what must not come back (docs/sources.md).")
    ] = None,
    again: Annotated[
        list[str] | None,
        typer.Option(
            envvar="MSSYNC_AGAIN",
            help="Reason code to try again though asking again seldom helps, such as gone; "
            "repeat for several.",
        ),
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Fetch the listed videos into the media store and cut them.

    Sources are files, http(s) links, pages of video sites (yt-dlp) and
    s3:// objects. Run it again to go on: what is there is not fetched again,
    and of the failures only those that may have passed are tried. How hard
    hosts are asked, how much is fetched and what is refused is set in the
    section download_videos of the parameter file.

    \b
    MSSYNC_MEDIA          where media are stored
    MSSYNC_SOURCE_BASE    folder or URL that relative sources start from
    MSSYNC_SECRETS        file with cookies, proxy, headers (docs/sources.md)
    MSSYNC_LOCAL_MIRRORS  hosts or networks to allow that are not public
    """  # noqa: D301 - the escape is click's mark of a paragraph that keeps its lines
    from mssync.download import access
    from mssync.lists.sources import BASE
    from mssync.media.store import MediaStore, default_folder
    from mssync.reasons import DOWNLOAD
    from mssync.stages import download_videos as stage

    unknown = sorted(set(again or ()) - set(DOWNLOAD))
    if unknown:
        raise InputError(
            f"--again {unknown[0]}: expected a reason code of the download, one of "
            f"{', '.join(DOWNLOAD)}"
        )
    if takedown and not takedown.exists():
        raise InputError(f"{takedown} does not exist: name the takedown list, or make an empty one")
    loaded = load(params)
    stage.run(
        sources,
        manifest,
        ledger,
        loaded.download_videos,
        store=MediaStore(default_folder()),
        workers=loaded.run.workers,
        base=os.environ.get(BASE, ""),
        takedown=takedown,
        again=again or (),
        access=access.from_environment(),
    )


def extract_landmarks(
    manifest: Manifest,
    out: Annotated[Path, typer.Option(help="Folder of landmark parts to write.")],
    ledger: StageLedger,
    params: ParamsFile = PARAMS,
) -> None:
    """Follow the face through every clip and write its 68 landmarks."""
    from mssync.media.store import MediaStore, default_folder
    from mssync.stages import extract_landmarks as stage

    loaded = load(params)
    stage.run(
        manifest,
        out,
        ledger,
        loaded.extract_landmarks,
        store=MediaStore(default_folder()),
        workers=loaded.run.workers,
        device=loaded.run.device,
    )


def extract_audio(
    manifest: Manifest,
    out: Annotated[Path, typer.Option(help="Folder of audio-feature parts to write.")],
    ledger: StageLedger,
    params: ParamsFile = PARAMS,
) -> None:
    """Compute log mel energies and MFCC, four rows a video frame."""
    from mssync.media.store import MediaStore, default_folder
    from mssync.stages import extract_audio as stage

    loaded = load(params)
    stage.run(
        manifest,
        out,
        ledger,
        loaded.extract_audio,
        store=MediaStore(default_folder()),
        workers=loaded.run.workers,
    )


def build_dataset(
    manifest: Manifest,
    landmarks: Annotated[Path, typer.Option(help="Folder of landmark parts.")],
    audio: Annotated[Path, typer.Option(help="Folder of audio-feature parts.")],
    ledger: Ledger,
    out: Annotated[Path, typer.Option(help="Dataset folder to write.")],
    card: Annotated[Path, typer.Option(help="Folder to write the version's card to.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Decide which clips are used, cut them, and split by speaker."""
    from mssync.stages import build_dataset as stage

    loaded = load(params)
    stage.run(
        *(manifest, landmarks, audio, ledger, out, card, loaded.build_dataset),
        workers=loaded.run.workers,
    )


def train_syncers(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="Folder of guides and evaluators to write.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Train the guide pyramid and the evaluator pyramid."""
    from mssync.stages import train_syncers as stage

    loaded = load(params)
    stage.run(
        dataset,
        out,
        loaded.train_syncers,
        run=loaded.run,
        paths=loaded.paths,
        params_hash=digest(loaded),
    )


def train_generator(
    dataset: Dataset,
    syncers: Syncers,
    out: Annotated[Path, typer.Option(help="Folder of the generator's checkpoint to write.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Train the landmark generator against guides and critics."""
    from mssync.stages import train_generator as stage

    loaded = load(params)
    stage.run(
        dataset,
        syncers,
        out,
        loaded.train_generator,
        run=loaded.run,
        paths=loaded.paths,
        params_hash=digest(loaded),
    )


def evaluate(
    dataset: Dataset,
    syncers: Syncers,
    generator: Generator,
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and the gallery.")],
    system: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=WHERE of another system: run:ID, alias:NAME, or a folder with a checkpoint, "
            "videos or landmark files; repeat for several. Joins evaluate.systems."
        ),
    ] = None,
    inception: Annotated[
        Path | None,
        typer.Option(
            help="Inception's weights, pt_inception-2015-12-05-6726825d.pth: adds FID and t-FID. "
            "Replaces evaluate.rendered.inception."
        ),
    ] = None,
    i3d: Annotated[
        Path | None,
        typer.Option(
            help="I3D as TorchScript, i3d_torchscript.pt: adds FVD. Replaces evaluate.rendered.i3d."
        ),
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Score the generator on held-out speakers, and make the gallery."""
    from mssync.media.store import MediaStore, default_folder
    from mssync.stages import evaluate as stage
    from mssync.stages._imported import Extraction

    loaded = load(params)
    section = loaded.evaluate
    if system:
        named = dict(each.partition("=")[::2] for each in system)
        content = section.model_dump() | {"systems": section.systems | named}
        section = validate(type(section), content, name="--system")
    weights = {name: str(file) for name, file in (("inception", inception), ("i3d", i3d)) if file}
    if weights:
        rendered = section.rendered.model_copy(update=weights)
        section = section.model_copy(update={"rendered": rendered})
    stage.run(
        dataset,
        syncers,
        generator,
        out,
        section,
        run=loaded.run,
        paths=loaded.paths,
        store=MediaStore(default_folder()),
        extraction=Extraction(loaded.extract_landmarks, loaded.run.device),
    )


def promote(
    metrics: Annotated[Path, typer.Option(help="metrics.json of evaluate.")],
    out: Annotated[Path, typer.Option(help="decision.json to write.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Carry the decision out in the model registry.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every metric that was compared.")
    ] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Decide whether the new model replaces the champion, and why."""
    from mssync.render import gate
    from mssync.stages import promote as stage

    loaded = load(params)
    decision = stage.run(metrics, out, loaded.promote)
    typer.echo(gate.line(decision))
    if explain:
        typer.echo("\n" + gate.table(decision))
    if apply:
        version = stage.apply(out, metrics, loaded.promote, loaded.paths)
        typer.echo(f"champion: version {version}" if version else "the registry stays as it is")
