"""The command line of the pipeline: `python -m pipeline`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mssync.cli import guarded
from mssync.errors import InputError
from mssync.lists.sources import BASE
from mssync.params import load
from pipeline import cluster

app = typer.Typer(
    help="The chain on Kubeflow Pipelines: compile it, run it here, submit and "
    "schedule it on a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

IMAGE = "MSSYNC_IMAGE"
DEMO = Path("runs/pipeline")
RESOURCES = Path(__file__).with_name("resources.yaml")
Shards = Annotated[int, typer.Option(help="Parts that the list is cut into, at most 64.")]
Image = Annotated[str, typer.Option(envvar=IMAGE, help="Image of every step.")]


@app.command("compile")
def compile_graph(
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("build/pipeline.yaml"),
    shards: Shards = 8,
    params: Annotated[
        Path, typer.Option(help="Parameter file; its values are the inputs' defaults.")
    ] = Path("params.cluster.yaml"),
    image: Image = "mssync:dev",
    resources: Annotated[
        Path,
        typer.Option(help="What every step asks of the cluster.", show_default="the project's"),
    ] = RESOURCES,
    kubernetes: Annotated[
        bool,
        typer.Option(
            "--kubernetes", help="Write Kubernetes objects, for GitOps (manifests/README.md)."
        ),
    ] = False,
) -> None:
    """Write the pipeline as a file that Kubeflow Pipelines takes."""
    from pipeline import jobs

    jobs.compile_for_cluster(
        load(params),
        output,
        image=image,
        shards=shards,
        resources_file=resources,
        kubernetes=kubernetes,
    )
    typer.echo(f"{output}: {output.stat().st_size / 1000:.0f} kB, {shards} shards")


@app.command()
def run_local(
    runner: Annotated[
        Literal["subprocess", "docker"],
        typer.Option(help="Steps as processes here, or as containers of the image."),
    ] = "subprocess",
    sources: Annotated[
        str,
        typer.Option(help="Your own list of videos (docs/sources.md) in place of the demo corpus."),
    ] = "",
    source_base: Annotated[
        str,
        typer.Option(
            envvar=BASE, help="Folder or URL of relative sources; default: the list's folder."
        ),
    ] = "",
    workspace: Annotated[
        Path | None,
        typer.Option(
            help="Folder that all steps share; needed with --sources.", show_default=f"{DEMO}"
        ),
    ] = None,
    params: Annotated[Path, typer.Option(help="Parameter file.")] = Path("params.yaml"),
    shards: Shards = 2,
    image: Image = "mssync:dev",
    network: Annotated[
        str, typer.Option(help="Docker network; sources on the web need one, such as bridge.")
    ] = "none",
    user: Annotated[str, typer.Option(help="uid:gid in the containers; default: yours.")] = "",
    apply_promotion: Annotated[
        bool, typer.Option("--apply-promotion", help="Write a promotion into the registry.")
    ] = False,
    dvc_remote: Annotated[
        str, typer.Option(help="Where this version of the data is pushed; default: nowhere.")
    ] = "",
    repeat: Annotated[
        bool,
        typer.Option("--repeat", help="Work also if nothing changed since the last finished run."),
    ] = False,
) -> None:
    """Run the whole graph on this machine, without a cluster."""
    from mssync.demo import chain
    from mssync.render import report
    from pipeline import local

    loaded = load(params)
    if bool(sources) != bool(workspace):
        raise InputError(
            "--sources and --workspace come together: a list of your own runs in a folder of its "
            "own (make run-local SOURCES=list.csv NAME=...), the demo corpus where it belongs"
        )
    if not sources:
        made = chain.demo_corpus(workers=loaded.run.workers)
        sources, source_base = str(made / "sources.csv"), str(made / "media")
    folder = workspace or DEMO
    where = local.Where(folder, runner, image, network, user)
    reports = local.run(
        loaded,
        sources,
        where,
        source_base=source_base,
        shards=shards,
        apply_promotion=apply_promotion,
        dvc_remote=dvc_remote,
        repeat=repeat,
    )
    typer.echo(report.summary(folder))
    typer.echo(f"Reports:  {reports}")


for command in (cluster.submit, cluster.schedule, cluster.status, cluster.cancel):
    app.command()(command)


if __name__ == "__main__":
    guarded(app)
