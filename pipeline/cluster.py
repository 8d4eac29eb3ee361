"""Commands that talk to a Kubeflow Pipelines server."""

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mssync.errors import MsSyncError

if TYPE_CHECKING:
    from pipeline.client import Server

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # what a shell makes of Ctrl-C
WOULD_CHANGE = 3  # unlike 1, an error, and 2, a wrong option

Host = Annotated[
    str,
    typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="Address of the Kubeflow Pipelines server."),
]
Namespace = Annotated[
    str,
    typer.Option(envvar="MSSYNC_NAMESPACE", help="Whose runs; only on a server for several users."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        envvar="KF_PIPELINES_SA_TOKEN_PATH", help="File with a token, where one is needed."
    ),
]
Params = Annotated[
    Path | None,
    typer.Option(help="Parameter file.", show_default="params.cluster.yaml, or the package's"),
]
Package = Annotated[
    Path | None, typer.Option(help="A compiled graph; without one, the graph is compiled.")
]
Shards = Annotated[
    int | None, typer.Option(help="Parts that the list is cut into.", show_default="8")
]
Image = Annotated[
    str | None,
    typer.Option(envvar="MSSYNC_IMAGE", help="Image of every step.", show_default="mssync:dev"),
]
Base = Annotated[
    str | None,
    typer.Option(
        help="Folder or URL that relative sources start from; default: where the list is."
    ),
]
Workspace = Annotated[
    str | None,
    typer.Option(help="Folder that all steps share, in their pods.", show_default="/workspace"),
]
Account = Annotated[
    str | None, typer.Option(help="Kubernetes' account of the steps.", show_default="mssync-steps")
]
Experiment = Annotated[
    str | None, typer.Option(help="Kubeflow's experiment.", show_default="mssync")
]
Apply = Annotated[
    bool | None,
    typer.Option("--apply-promotion", help="Write a promotion into the model registry."),
]
Resources = Annotated[
    Path | None,
    typer.Option(help="What every step asks of the cluster.", show_default="the project's"),
]
Remote = Annotated[
    str | None, typer.Option(help="Where the version of the data is pushed; default: nowhere.")
]
Repeat = Annotated[
    bool | None,
    typer.Option("--repeat", help="Work also if nothing changed since the last finished run."),
]


def submit(
    sources: Annotated[
        str, typer.Option(help="The list: a path in the workspace, or a URL (docs/sources.md).")
    ],
    source_base: Base = None,
    params: Params = None,
    package: Package = None,
    shards: Shards = None,
    image: Image = None,
    resources: Resources = None,
    workspace: Workspace = None,
    experiment: Experiment = None,
    name: Annotated[
        str, typer.Option(help="Of the run.", show_default="mssync-, and the time")
    ] = "",
    service_account: Account = None,
    apply_promotion: Apply = None,
    dvc_remote: Remote = None,
    repeat: Repeat = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the run until it ends.")
    ] = True,
    timeout: Annotated[
        float, typer.Option(min=0, help="Longest wait in minutes; the run goes on. 0: for ever.")
    ] = 0.0,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
    host: Host = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
) -> None:
    """Run the graph on a cluster, and follow it.

    The exit code is 0 where the run succeeded, 1 where it failed, 75 where it is not over in time,
    and 130 after Ctrl-C, which leaves the run going.
    """
    from pipeline import client, jobs, runs

    order = jobs.Order.model_validate(
        _given(
            sources=sources,
            source_base=source_base,
            params=params,
            package=package,
            shards=shards,
            image=image,
            resources=resources,
            workspace=workspace,
            experiment=experiment,
            service_account=service_account,
            apply_promotion=apply_promotion,
            dvc_remote=dvc_remote,
            repeat=repeat,
        )
    )
    server = client.connect(host, namespace=namespace, token_file=token_file)
    with tempfile.TemporaryDirectory() as folder:
        job = order.job(Path(folder))
        uploaded = jobs.upload(server, job.package)
    run_id = runs.start(
        server,
        job,
        uploaded,
        experiment_id=jobs.experiment_of(server, job.experiment),
        name=name or f"{job.package.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
    )
    typer.echo(f"run {run_id}, of {job.package.name} {job.package.version}")
    typer.echo(f"Kubeflow: {server.run_page(run_id)}")
    if not wait:
        typer.echo(f"Look: python -m pipeline status {run_id}")
        return
    with _left_running(run_id):
        run = runs.follow(server, run_id, typer.echo, timeout_s=60 * timeout, every_s=poll)
    _ending(server, run)


def schedule(
    file: Annotated[
        Path | None, typer.Argument(help="YAML file with these options as fields; options win.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the schedule.")] = None,
    cron: Annotated[
        str | None,
        typer.Option(help="When, in UTC: five fields, or six with seconds before them."),
    ] = None,
    enabled: Annotated[
        bool | None,
        typer.Option("--enabled/--disabled", help="Switched on or off.", show_default="enabled"),
    ] = None,
    sources: Annotated[
        str | None, typer.Option(help="The list: a path in the workspace, or a URL.")
    ] = None,
    source_base: Base = None,
    params: Params = None,
    package: Package = None,
    shards: Shards = None,
    image: Image = None,
    resources: Resources = None,
    workspace: Workspace = None,
    experiment: Experiment = None,
    service_account: Account = None,
    apply_promotion: Apply = None,
    dvc_remote: Remote = None,
    repeat: Repeat = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would change, and change nothing: exit code 3."),
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the schedule of that name; its runs stay.")
    ] = False,
    host: Host = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
) -> None:
    """Make the server's schedule what it shall be, or leave it where it is so already.

    With --dry-run the exit code is 0 where nothing would change, and 3 where something would.
    """
    from pipeline import client
    from pipeline import cron as times
    from pipeline import schedule as schedules

    options = _given(
        name=name,
        cron=cron,
        enabled=enabled,
        sources=sources,
        source_base=source_base,
        params=params,
        package=package,
        shards=shards,
        image=image,
        resources=resources,
        workspace=workspace,
        experiment=experiment,
        service_account=service_account,
        apply_promotion=apply_promotion,
        dvc_remote=dvc_remote,
        repeat=repeat,
    )
    if delete:
        # all that matters is which one
        options = {"cron": "", "sources": ""} | options
    wanted = schedules.read(file, options)
    if delete:
        server = client.connect(host, namespace=namespace, token_file=token_file)
        plan = schedules.plan_removal(server, wanted.name, wanted.experiment)
        _show(wanted.name, plan, dry_run=dry_run)
        schedules.remove(server, wanted.name, wanted.experiment)
        return
    when = times.parse(wanted.cron)
    typer.echo(f"{wanted.name}: {when.words()} ({when.text})")
    for moment in when.upcoming(datetime.now(UTC), 3):
        typer.echo(f"  {moment:%a %Y-%m-%d %H:%M:%S} UTC")
    server = client.connect(host, namespace=namespace, token_file=token_file)
    with tempfile.TemporaryDirectory() as folder:
        job = wanted.job(Path(folder))
        plan = schedules.plan(server, wanted, job)
        _show(wanted.name, plan, dry_run=dry_run)
        if plan.changes:
            typer.echo(f"done: {schedules.apply(server, wanted, job)}")


def status(
    run_id: Annotated[str, typer.Argument(help="A run; default: the newest ones.")] = "",
    experiment: Annotated[
        str, typer.Option(help="Runs of this experiment only.", show_default="all")
    ] = "",
    count: Annotated[int, typer.Option(min=1, help="Runs at most.")] = 20,
    host: Host = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
) -> None:
    """Show the newest runs, or one run with its steps."""
    from pipeline import client, runs, views

    server = client.connect(host, namespace=namespace, token_file=token_file)
    if run_id:
        run = runs.get(server, run_id)
        typer.echo(views.details(run, runs.labels(runs.spec_of(server, run))))
        _pages(server, run)
        return
    typer.echo(views.table(server, experiment=experiment, count=count))


def cancel(
    run_id: Annotated[str, typer.Argument(help="The run.")],
    host: Host = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
) -> None:
    """Ask a run to end; what its steps had finished stays in the workspace."""
    from pipeline import client, runs

    server = client.connect(host, namespace=namespace, token_file=token_file)
    typer.echo(runs.cancel(server, run_id))


def _given(**options: Any) -> dict[str, Any]:  # noqa: ANN401 - of several types
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def _left_running(run_id: str) -> Iterator[None]:
    """Whatever ends within leaves the run going, and says so."""
    goes_on = f"the run goes on: python -m pipeline status {run_id}, or cancel {run_id} to end it"
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\n{goes_on}")
        raise typer.Exit(INTERRUPTED) from None
    except MsSyncError:
        typer.echo(goes_on)
        raise


def _ending(server: "Server", run: Any) -> None:  # noqa: ANN401 - kfp is untyped
    from pipeline import runs

    typer.echo(f"{run.state} after {runs.lasted(run)}")
    spec = _pages(server, run)
    runs.check(run, runs.steps(run, runs.labels(spec)))


def _pages(server: "Server", run: Any) -> Any:  # noqa: ANN401 - kfp is untyped
    """Say where a run is looked at; its graph."""
    from pipeline import runs, views

    spec = runs.spec_of(server, run)
    typer.echo(f"Kubeflow: {server.run_page(run.run_id)}")
    page = views.mlflow_page(run, spec)
    if page:
        typer.echo(f"MLflow:   {page}")
    return spec


def _show(name: str, plan: Any, *, dry_run: bool) -> None:  # noqa: ANN401
    first, *rest = plan.lines()
    typer.echo("\n".join([f"{name}: {first}", *rest]))
    if dry_run:
        raise typer.Exit(WOULD_CHANGE if plan.changes else 0)
