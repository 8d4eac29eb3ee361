"""The command line: one command per stage, and a few to start, look and decide."""

import gc
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from mssync import log
from mssync.errors import InputError, MsSyncError
from mssync.params import digest, load

logger = logging.getLogger(__name__)

app = typer.Typer(
    help="Audio-driven talking heads in the 2D-landmark domain: data, training, evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ParamsFile = Annotated[Path, typer.Option("--params", help="Parameter file.")]
Manifest = Annotated[Path, typer.Option(help="Clips and where their media are.")]
Dataset = Annotated[Path, typer.Option(help="Dataset folder.")]
Syncers = Annotated[Path, typer.Option(help="Folder of guides and evaluators.")]
Generator = Annotated[Path, typer.Option(help="Folder of the generator's checkpoint.")]
StageLedger = Annotated[
    Path, typer.Option("--ledger", help="Folder for this stage's decisions and attempts.")
]
Ledger = Annotated[Path, typer.Option(help="Folder that holds a folder for each stage.")]

PARAMS = Path("params.yaml")


# Tables of a large dataset are millions of small objects, none of them in a cycle: looking through
# all of them again and again takes a quarter of the time of a build.
_OBJECTS_BETWEEN_COLLECTIONS = (100_000, 50, 100)


def main() -> None:
    """Run the command line."""
    gc.set_threshold(*_OBJECTS_BETWEEN_COLLECTIONS)
    guarded(app)


def guarded(command: Callable[[], object]) -> None:
    """Run a command line; an error raised on purpose is one message and exit code 1."""
    try:
        log.set_up()
        command()
    except (MsSyncError, OSError) as error:
        logger.error("%s", error)
        sys.exit(1)


@app.command()
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


@app.command()
def import_sources(
    form: Annotated[
        Literal["fomm", "voxceleb", "hdtf", "celebv-hq", "talkvid", "folder"],
        typer.Argument(metavar="FORMAT", help="Whose list it is, or `folder` for media files."),
    ],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="The file or folder to read.")],
    out: Annotated[Path, typer.Option(help="List of sources to write, comma-separated.")],
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of videos you have already, taken in place of their pages; of `folder`: "
            "what sources are written relative to."
        ),
    ] = None,
) -> None:
    """Make a list of sources from another project's list, or from a folder.

    \b
    fomm       vox-metadata.csv of FOMM's video-preprocessing
    voxceleb   the folder of annotations, id10001/VIDEO/00001.txt
    hdtf       the folder HDTF_dataset
    celebv-hq  celebvhq_info.json
    talkvid    TalkVid's JSON
    folder     media files; their first-level folders are the speakers
    """  # noqa: D301 - the escape is click's mark of a paragraph that keeps its lines
    from mssync.lists.importers import import_sources as write

    if out.suffix != ".csv" or out.is_dir():
        raise InputError(f"--out {out}: expected a file that ends in .csv")
    summary = write(form, source, out, root=root)
    typer.echo(f"{out}: {summary}")
    typer.echo(
        "Check before you use it: the column licence is empty, and what the list's makers allow "
        "is no leave of the people in the videos or of their owners."
    )


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def evaluate(
    dataset: Dataset,
    syncers: Syncers,
    generator: Generator,
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and the gallery.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Score the generator on held-out speakers, and make the gallery."""
    from mssync.media.store import MediaStore, default_folder
    from mssync.stages import evaluate as stage

    loaded = load(params)
    stage.run(
        dataset,
        syncers,
        generator,
        out,
        loaded.evaluate,
        run=loaded.run,
        paths=loaded.paths,
        store=MediaStore(default_folder()),
    )


@app.command()
def promote(
    metrics: Annotated[Path, typer.Option(help="metrics.json of evaluate.")],
    out: Annotated[Path, typer.Option(help="decision.json to write.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Carry the decision out in the model registry.")
    ] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Decide whether the new model replaces the champion, and why."""
    from mssync.stages import promote as stage

    loaded = load(params)
    decision = stage.run(metrics, out, loaded.promote)
    typer.echo(f"{decision['decision']}: {decision['reason']}")
    if apply:
        version = stage.apply(out, metrics, loaded.promote, loaded.paths)
        typer.echo(f"champion: version {version}" if version else "the registry stays as it is")


@app.command("send-runs")
def send_runs(
    workspace: Annotated[Path, typer.Option(help="Folder that the chain ran in.")] = Path(),
) -> None:
    """Send to MLflow what it did not get while stages ran."""
    from mssync import tracking

    tracking.send_unsent(workspace)
    typer.echo("MLflow has everything")


@app.command()
def demo(
    sources: Annotated[
        Path | None,
        typer.Option(help="Your own list of videos (docs/sources.md) in place of the demo corpus."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Workspace runs/NAME of your list; default: the list's folder.")
    ] = "",
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what could not be downloaded.")
    ] = False,
) -> None:
    """Run the whole chain: on a synthetic corpus, or on your own videos."""
    from mssync.demo import accuracy, chain
    from mssync.render import report

    project, landmarks = Path(), ""
    if name and sources is None:
        raise InputError("--name names the workspace of a list: give the list too (--sources)")
    if sources is None:
        workers = load(PARAMS).run.workers
        workspace = chain.run_demo(project, workers=workers, retry=retry)
        landmarks = accuracy.summary_line(workspace / "data" / "landmarks", chain.corpus_folder())
    else:
        workspace = chain.run_sources(
            project, sources, name=name or sources.resolve().parent.name, retry=retry
        )
    typer.echo(report.summary(workspace, landmarks=landmarks))
    if sources is None:
        typer.echo("\nYour own videos:  make demo SOURCES=path/to/sources.csv")


@app.command()
def funnel(
    ledger: Ledger = Path("ledger"),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Show what build-dataset would decide with another threshold; repeat for several.",
        ),
    ] = None,
    names: Annotated[
        bool, typer.Option("--list", help="Name the clips that --set decides otherwise.")
    ] = False,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="Folder of landmark parts; default: data/landmarks beside the ledger."),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="Folder of audio-feature parts; default: data/audio beside the ledger."),
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Show how many clips each stage took, kept and rejected, and why.

    With --set the thresholds of the section build_dataset are replaced and
    every clip is decided again from its scores. Nothing is written.

    \b
    mssync funnel --set max_gap_frames=10 --set min_frames=80 --list
    """  # noqa: D301 - the escape is click's mark of a paragraph that keeps its lines
    from mssync.ledger import DECISIONS, changes, read_decisions, step
    from mssync.ledger import funnel as read_funnel
    from mssync.params import override, stage_names
    from mssync.render import funnel as text
    from mssync.selection.evidence import gather
    from mssync.selection.verdicts import verdicts
    from mssync.stages.build_dataset import LEAK, evidence_folder

    steps = read_funnel(ledger, stage_names())
    if not steps:
        if not ledger.is_dir():
            raise InputError(f"there is no folder {ledger}: name a workspace's folder ledger/")
        raise InputError(
            f"{ledger} holds no stage's decisions: name a workspace's folder ledger/, or run the "
            "chain first (make demo)"
        )
    if not settings:
        if names:
            raise InputError("--list names the clips that --set decides otherwise: give --set too")
        typer.echo(text.table(steps))
        return
    section = override(load(params).build_dataset, settings, name="build_dataset")
    data = ledger.parent / "data"
    before = read_decisions(ledger / "build_dataset" / DECISIONS)
    evidence = gather(
        landmarks or data / "landmarks",
        audio or data / "audio",
        section,
        listed_ms={
            decision.clip_id: decision.scores.get("av_listed_ms", math.nan) for decision in before
        },
        cache=evidence_folder(data / "dataset"),
        keep=False,
    )
    leaks = {decision.clip_id: decision for decision in before if decision.reason == LEAK}
    # thresholds do not change which clips share footage
    after = [
        leaks.get(decision.clip_id, decision) if decision.kept else decision
        for decision in verdicts(ledger, evidence, section)
    ]
    others = [found for found in steps if found.stage != "build_dataset"]
    typer.echo(f"With {', '.join(settings)}:\n")
    typer.echo(text.table([*others, step("build_dataset", after)]) + "\n")
    typer.echo(text.differences(changes(before, after), names=names))


@app.command()
def validate(
    manifest: Manifest = Path("data/manifest.parquet"),
    landmarks: Annotated[Path, typer.Option(help="Folder of landmark parts.")] = Path(
        "data/landmarks"
    ),
    audio: Annotated[Path, typer.Option(help="Folder of audio-feature parts.")] = Path(
        "data/audio"
    ),
    ledger: Ledger = Path("ledger"),
    dataset: Dataset = Path("data/dataset"),
) -> None:
    """Check every value of manifest, parts, ledgers and dataset.

    Types, ranges, clocks, NaN, digests, duplicates, and rows that no other
    table knows. The first that is wrong is named, with exit code 1.
    """
    from mssync.data.validate import validate as check

    found = check(manifest, landmarks, audio, ledger, dataset)
    listed = "no dataset yet" if found.dataset is None else f"{found.dataset} in the dataset"
    typer.echo(
        f"good: {found.clips} clips, {found.landmarks} with landmarks, {found.audio} with sound, "
        f"{listed}"
    )


@app.command()
def versions(
    dataset: Dataset = Path("data/dataset"),
) -> None:
    """List the versions that the dataset had, the oldest first."""
    from mssync.data import history
    from mssync.render import versions as text

    found = history.known(history.folder_of(dataset))
    if not found:
        raise InputError(f"{history.folder_of(dataset)} remembers no version: run build-dataset")
    lost = history.lost(history.folder_of(dataset))
    typer.echo(
        text.listing(
            [
                (each.revision, {**each.facts, "": "purged" if each.revision in lost else ""})
                for each in found
            ]
        )
    )


@app.command()
def diff(
    before: Annotated[
        str, typer.Argument(help="First digits of a revision, or a dataset's folder.")
    ],
    after: Annotated[
        str, typer.Argument(help="The same; by default the dataset as it is.")
    ] = "data/dataset",
    dataset: Dataset = Path("data/dataset"),
    most: Annotated[
        int, typer.Option("--list", min=0, help="Clips of each kind that are named.")
    ] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every clip to this file.")
    ] = None,
) -> None:
    """Compare two versions of the dataset clip by clip.

    Exit code 1 if a clip moved to another split, which never happens within
    a line of versions. `mssync versions` lists what can be compared.
    """
    import json
    from dataclasses import asdict

    from mssync.data import history
    from mssync.records import write_text
    from mssync.render import versions as text

    folder = history.folder_of(dataset)
    old, new = history.find(folder, before), history.find(folder, after)
    found = history.diff(old, new)
    groups = {name: value for name, value in vars(found).items() if name != "same"}
    typer.echo(f"{old.revision[:12]} -> {new.revision[:12]}\n")
    typer.echo(text.difference(groups, found.same, most=most))
    if json_file:
        told = {"before": old.revision, "after": new.revision, **asdict(found)}
        write_text(json_file, json.dumps(told, indent=1) + "\n")
    if found.moved:
        raise typer.Exit(1)


@app.command()
def preflight(
    dataset: Dataset = Path("data/dataset"),
    most: Annotated[int, typer.Option("--clips", min=2, help="Clips to look at, at most.")] = 1000,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the findings to this file too.")
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Look for what would keep a sync expert at chance, before a GPU is rented.

    Offsets of the sound, silence, frozen faces, people under two names, and
    a linear map from mouths to sounds that has to beat guessing. Takes up
    to two minutes. Exit code 1 if a fault is found.
    """
    import json
    from dataclasses import asdict

    from mssync.records import write_text
    from mssync.render import preflight as text
    from mssync.stages import _preflight

    found = _preflight.run(dataset, most=most, seed=load(params).run.seed)
    probe = "too few windows"
    if found.probe:
        probe = (
            f"right {found.probe.accuracy:.1%} of {found.probe.windows} times, guessing "
            f"{found.probe.chance:.1%} (p {found.probe.p_value:.1g}; {found.probe.on})"
        )
    lines = [
        *text.splits(found.splits),
        "",
        f"  looked at          {found.looked_at} clips",
        f"  silent             {found.silent_ratio:.1%}",
        f"  frozen             {found.frozen_ratio:.1%}",
        f"  mouth and level    correlation {found.correlation:.2f} (median)",
        f"  same footage       {len(found.duplicates)} pairs",
        f"  in sync            {found.believed_ratio:.0%} of the clips of 5 s or more show one lag",
        f"  linear probe       {probe}",
        "",
        "  the sound comes after the mouth by, in clips that tell it:",
        *text.histogram(found.offsets_ms),
        "",
        *(f"  FAULT {fault.cause}: {fault.detail}" for fault in found.faults),
    ]
    typer.echo("\n".join(lines if found.faults else [*lines, "  no fault found"]))
    if json_file:
        write_text(json_file, json.dumps(asdict(found), indent=1) + "\n")
    if found.faults:
        raise typer.Exit(1)


@app.command()
def offsets(
    syncer: Annotated[
        Path | None,
        typer.Option(
            help="Folder of train-syncers, or of one syncer of level 0; default: what "
            "build-dataset estimated without one."
        ),
    ] = None,
    dataset: Dataset = Path("data/dataset"),
    ledger: Ledger = Path("ledger"),
    sources: Annotated[
        Path, typer.Option(help="List of sources that the dataset was made from.")
    ] = Path("data/sources.csv"),
    out: Annotated[
        Path | None,
        typer.Option(help="List to write: the sources, with offsets in the column av_offset_ms."),
    ] = None,
    least_ms: Annotated[
        float, typer.Option("--least-ms", min=0, help="Smaller offsets are left alone.")
    ] = 60.0,
    most: Annotated[int, typer.Option("--list", min=0, help="Clips that are named.")] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every clip to this file.")
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Tell how late the sound of each clip is, and write it into the list.

    A positive offset means that the sound comes after the mouth. With --syncer
    a trained syncer is asked: it tells offsets relative to what it was taught,
    of clips that it was trained on too. Those that are believed (thresholds of
    build_dataset) and off by --least-ms or more go into the list that --out
    names. The next run of the chain on that list makes up for them.

    \b
    mssync offsets --syncer models/syncers --out next.csv
    MSSYNC_SOURCE_BASE    folder or URL that relative sources start from
    """  # noqa: D301 - the escape is click's mark of a paragraph that keeps its lines
    import json
    from dataclasses import asdict

    from mssync import device
    from mssync.lists.sources import BASE, write_offsets
    from mssync.records import write_text
    from mssync.render import offsets as text
    from mssync.stages import _offsets

    loaded = load(params)
    if syncer:
        found = _offsets.by_syncer(dataset, syncer, device=device.prepare(loaded.run))
    else:
        found = _offsets.by_estimate(dataset, ledger)
    wrong = _offsets.to_correct(found, loaded.build_dataset, least_ms=least_ms)
    told = _offsets.believed(found, loaded.build_dataset)
    typer.echo(
        text.summary(
            [each.left_ms for each in told],
            clips=len(found),
            believed=f"confidence {loaded.build_dataset.min_av_confidence:g} or more, drift within "
            f"{loaded.build_dataset.max_av_drift_ms_per_s:g} ms/s",
            wrong=[vars(each) for each in wrong],
            least_ms=least_ms,
            most=most,
        )
    )
    if json_file:
        write_text(json_file, json.dumps([asdict(each) for each in found], indent=1) + "\n")
    if out:
        offsets_ms = {each.clip_id: each.offset_ms for each in wrong}
        base = os.environ.get(BASE, "")
        given = write_offsets(sources, out, base=base, offsets_ms=offsets_ms)
        typer.echo(f"{out}: {given} rows have a new av_offset_ms")


@app.command()
def takedown(
    speakers: Annotated[
        list[str] | None,
        typer.Option("--speaker", help="Everything of this speaker; repeat for several."),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option("--source", help="Everything of this source, in any spelling."),
    ] = None,
    clips: Annotated[list[str] | None, typer.Option("--clip", help="This clip.")] = None,
    reason: Annotated[
        str, typer.Option(help="Said to whoever asks why it is not there.")
    ] = "on request",
    purge: Annotated[
        bool,
        typer.Option(
            "--purge", help="Then delete them from older versions and the media store too."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a purge.")] = False,
    workspace: Annotated[Path, typer.Option(help="Folder the chain runs in.")] = Path(),
    params: ParamsFile = PARAMS,
) -> None:
    """Take people, sources or clips out of parts, tables, ledgers and dataset.

    They never come back: a row in data/takedown.csv keeps the download from
    fetching them. The dataset gets a new version. Models that were trained on
    them are listed; they are not changed. Run it again if it was stopped.

    With --purge the parts of older versions are deleted from DVC's cache and
    remotes, and media from the store. Versions that used them are lost.
    """
    from mssync.media.store import MediaStore, default_folder
    from mssync.stages import _purge, _takedown

    request = _takedown.Request(speakers or (), sources or (), clips or (), reason)
    found = _takedown.run(workspace, request, tracking_uri=load(params).paths.tracking_uri)
    typer.echo(f"{len(found.clips)} clips taken down, {found.parts} parts written anew or dropped")
    for clip in found.clips:
        typer.echo(f"  {clip}")
    if found.before:
        typer.echo(f"dataset {found.before[:12]} -> {found.after[:12] if found.after else 'none'}")
    for trained in found.trained:
        typer.echo(
            f"trained on them: {trained.name} (run {trained.run_id}, dataset "
            f"{trained.dataset_revision[:12]})"
        )
    if not purge:
        return
    ever = _takedown.clips_ever(workspace, request)
    for revision in _purge.lost(workspace, ever):
        typer.echo(f"can no longer be restored after the purge: dataset {revision[:12]}")
    if not (yes or typer.confirm("Delete them for good?")):
        raise typer.Exit(1)
    purged = _purge.run(workspace, ever, store=MediaStore(default_folder()))
    typer.echo(f"{purged.parts} files of older versions and {purged.media} media deleted")
    for place in purged.places:
        typer.echo(f"  searched {place}")


@app.command()
def preview(
    clip: Annotated[
        str, typer.Argument(help="Clip id of the manifest or a part of it, or a media file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="MP4 file to write; default: previews/CLIP.mp4.")
    ] = None,
    manifest: Manifest = Path("data/manifest.parquet"),
    landmarks: Annotated[Path, typer.Option(help="Folder of landmark parts.")] = Path(
        "data/landmarks"
    ),
    audio: Annotated[Path, typer.Option(help="Folder of audio-feature parts.")] = Path(
        "data/audio"
    ),
    ledger: Ledger = Path("ledger"),
    params: ParamsFile = PARAMS,
) -> None:
    """Write a video of a clip with its landmarks drawn, curves and verdicts under it, with sound.

    A media file is extracted on the spot; a clip of the manifest shows what is
    stored, with the verdict of build-dataset and the stretch that is used.
    Points run from red to green with the confidence; blue rings are
    interpolated. A preview that is there is replaced.
    """
    from mssync.media.store import MediaStore, default_folder
    from mssync.stages import _preview

    written = _preview.run(
        clip,
        out,
        manifest=manifest,
        landmarks=landmarks,
        audio=audio,
        ledger=ledger,
        params=load(params),
        store=MediaStore(default_folder()),
    )
    typer.echo(written)


@app.command()
def weights(
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch what is missing or wrong.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where the files are; default: where stages look, $TORCH_HOME/hub/checkpoints.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Show whether the weights of the backend face_alignment are there.

    Exit code 1 if one is missing or wrong. The backend mediapipe needs none.
    """
    from mssync.landmarks import weights as files

    wanted, folder = files.required(), folder or files.default_folder()
    try:
        if fetch:
            files.fetch(wanted, folder)
        files.check(wanted, folder)
    finally:
        typer.echo(f"{folder}:")
        for each in wanted:
            typer.echo(f"  {files.state(each, folder):<8}{each.name}  {each.purpose}")
    typer.echo(
        "fits: the SHA-256 begins with the digits in the name; no longer digest is published"
    )


@app.command()
def links(
    ledger: Ledger = Path("ledger"),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file too.")
    ] = None,
) -> None:
    """Show how many links of the list still answer, run after run.

    A run asks only for what it does not have: set download_videos.revalidate
    to true to ask for all, which fetches nothing that has not changed.
    """
    import json
    from dataclasses import asdict

    from mssync.download.links import decay
    from mssync.ledger import ATTEMPTS, DECISIONS, stream_attempts, stream_decisions
    from mssync.records import write_text

    stage = ledger / "download_videos"
    if not (stage / ATTEMPTS).exists():
        raise InputError(f"{stage} holds no attempts: run the chain first (make demo)")
    listed = (decision.clip_id for decision in stream_decisions(stage / DECISIONS))
    runs = list(decay(stream_attempts(stage / ATTEMPTS), listed))
    typer.echo(f"{'run':<26}{'asked':>8}{'alive':>8}{'unsure':>8}{'dead':>8}{'alive':>8}  dead by")
    for census in runs:
        dead = ", ".join(f"{reason} {count}" for reason, count in census.dead.items())
        typer.echo(
            f"{census.run[:19] + 'Z':<26}{census.asked:>8}{census.alive:>8}{census.unsure:>8}"
            f"{sum(census.dead.values()):>8}{census.alive / census.known:>8.1%}  {dead}"
        )
    if json_file:
        write_text(json_file, json.dumps([asdict(census) for census in runs], indent=1) + "\n")
