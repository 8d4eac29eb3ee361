"""Commands around lists and the dataset: making them, checking them, taking out of them."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from mssync.cli.options import PARAMS, Dataset, Ledger, Manifest, ParamsFile
from mssync.errors import InputError
from mssync.params import load


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
    from mssync.lists.sources import BASE
    from mssync.lists.writing import write_offsets
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
