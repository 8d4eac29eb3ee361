"""Commands that start the chain, show what it did, or use what it made."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from mssync.cli.options import PARAMS, Dataset, Ledger, Manifest, ParamsFile
from mssync.errors import InputError
from mssync.params import load


class Incomplete(StrEnum):
    """What becomes of a run without full lineage."""

    REFUSE = "refuse"
    MARK = "mark"


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


def generate(
    source: Annotated[Path, typer.Option(help="Face: a photo (png, jpg), or a video (see --at).")],
    audio: Annotated[Path, typer.Option(help="Sound: any file that ffmpeg reads, of any length.")],
    out: Annotated[
        list[Path],
        typer.Option(
            help="File to write: .mp4 (landmarks drawn, with the sound), .npz or .parquet "
            "(landmarks); repeat for several."
        ),
    ],
    preview: Annotated[
        Path | None,
        typer.Option(help="MP4 file to write: the picture of the face, bent by the landmarks."),
    ] = None,
    at: Annotated[
        float | None,
        typer.Option(
            "--at", min=0, metavar="SECONDS", help="Moment of a video; default: its first frame."
        ),
    ] = None,
    face: Annotated[
        int, typer.Option(min=0, help="Number of the face from the left, from 1; 0: the widest.")
    ] = 0,
    model: Annotated[
        Path, typer.Option(help="Folder of train-generator, or of its checkpoint.")
    ] = Path("models/generator"),
    run: Annotated[
        str, typer.Option("--run", metavar="ID", help="MLflow run whose generator is taken.")
    ] = "",
    champion: Annotated[
        bool, typer.Option("--champion", help="Take the champion of the model registry.")
    ] = False,
    precision: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="Of the weights; bfloat16 is faster for a large model, and less exact."),
    ] = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Move a face with speech: 68 landmarks at 25 Hz, as long as the sound.

    The face is found by the backend of extract_landmarks, the sound is heard
    as in training, and both go through the generator piece by piece. Files
    appear when they are whole. What each error means: docs/use.md.

    \b
    mssync generate --source me.jpg --audio talk.mp3 --out talk.mp4 --preview me.mp4
    """  # noqa: D301 - the escape is click's mark of a paragraph that keeps its lines
    from mssync.stages import _generate
    from mssync.timing import frame_time_s

    if run and champion:
        raise InputError("--run and --champion each name a model: give one of them")
    made = _generate.run(
        _generate.Request(source, audio, out, preview, at, face, force, precision),
        _generate.Choice(model, run, champion),
        load(params),
    )
    typer.echo(f"{made.frames} frames, {frame_time_s(made.frames):g} s, by {made.model}")
    for path in made.files:
        typer.echo(path)


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run ids, run names, @champion, v3; or dataset folders or revisions.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("comparison.html"),
    videos: Annotated[
        Path | None,
        typer.Option(help="Folder to write an MP4 of each clip to; the page links to them."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Folder to write the curves to, as SVG files.")
    ] = None,
    dataset: Dataset = Path("data/dataset"),
    params: ParamsFile = PARAMS,
) -> None:
    """Put runs, or versions of the dataset, side by side on one page.

    Runs: which parameters, data and code differ, how far the scores are apart
    and how sure that is, and the same clips with sound. Versions: speakers,
    sizes and clips. The page is one file that needs no network.

    \b
    mssync compare 46f3e714 @champion
    mssync compare 1f00a2 data/dataset --out versions.html
    """  # noqa: D301 - the escape is click's mark of a paragraph that keeps its lines
    from mssync.stages import _compare

    if out.suffix != ".html" or out.is_dir():
        raise InputError(f"--out {out}: expected a file that ends in .html")
    typer.echo(
        _compare.run(names, out, load(params), dataset_folder=dataset, videos=videos, images=plots)
    )
    typer.echo(out)


def send_runs(
    workspace: Annotated[Path, typer.Option(help="Folder that the chain ran in.")] = Path(),
) -> None:
    """Send to MLflow what it did not get while stages ran."""
    from mssync import tracking

    tracking.send_unsent(workspace)
    typer.echo("MLflow has everything")


def rollback(
    to: Annotated[
        str, typer.Option("--to", help="Version; default: the one that the champion replaced.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why, for the registry.")] = "no reason was given",
    params: ParamsFile = PARAMS,
) -> None:
    """Make an earlier version the champion again.

    The version that is left is not promoted again, unless --to names it.
    """
    from mssync import tracking

    paths = load(params).paths
    left, now = tracking.roll_back(paths.tracking_uri, paths.model_name, to=to, reason=reason)
    typer.echo(f"champion: version {now}, in place of {left}")


def reproduce(
    run_id: Annotated[str, typer.Argument(help="MLflow run of train-generator or train-syncers.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to make; default: runs/reproduce-RUN_ID.")
    ] = None,
    incomplete: Annotated[
        Incomplete,
        typer.Option(help="What to do with a run that does not say all of where it comes from."),
    ] = Incomplete.REFUSE,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Greatest difference of a metric that counts as none.")
    ] = 0.0,
    params: ParamsFile = PARAMS,
) -> None:
    """Train a run again from its own code, data, parameters and seed, and compare its metrics.

    Run it in the folder that the run's chain ran in, of a git clone of the
    project. Exit code 1 if a metric differs. What the run's data had of people
    whose clips were purged is gone, and the run cannot be repeated.
    """
    from mssync.render import reproduction as text
    from mssync.stages import _reproduce

    found = _reproduce.run(
        run_id,
        out or Path("runs") / f"reproduce-{run_id[:12]}",
        paths=load(params).paths,
        workspace=Path(),
        mark_incomplete=incomplete is Incomplete.MARK,
        tolerance=tolerance,
    )
    typer.echo(text.summary(found))
    if not found["equal"]:
        raise typer.Exit(1)


def doctor(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the findings to this file too.")
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Check this machine and this folder, and try the chain in small.

    Python, packages, torch, ffmpeg, weights, disk, parameters, git, DVC,
    tracking and media store, environment; then a second of video, a face, a
    step of training and a generated frame. Each point is ok, a warning or a
    problem, with what to do. Exit code 1 if there is a problem.
    """
    import json
    from collections import Counter
    from dataclasses import asdict

    from mssync.doctor.checks import examine
    from mssync.records import write_text
    from mssync.render import findings as text

    found = []
    for each in examine(params):
        found.append(each)
        typer.echo(text.line(each.name, each.status, each.found, each.advice))
    counts = Counter(each.status for each in found)
    typer.echo(f"\n{counts['ok']} ok, {counts['warning']} warnings, {counts['problem']} problems")
    if json_file:
        told = {"findings": [asdict(each) for each in found], "problems": counts["problem"]}
        write_text(json_file, json.dumps(told, indent=1) + "\n")
    if counts["problem"]:
        raise typer.Exit(1)
