"""What is to be trained, as a file that every process of a training reads; and where."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from mssync import records
from mssync.errors import InputError
from mssync.params import Paths, Run, Section, TrainGenerator, TrainSyncers, validate

Stage = Literal["train_syncers", "train_generator"]
Count = Annotated[int, Field(ge=1)]
FILE = "order.json"


class Job(Section):
    """What each of several nodes is and takes, as `pipeline/resources.yaml` says it."""

    image: str
    cpu: str = Field(description="Cores requested.")
    memory: str = Field(description="Requested, and the limit.")
    accelerator: str = Field(description="Name of the GPUs as a resource; empty: none.")
    gpus: int = Field(ge=0)
    node_selector: dict[str, str]
    tolerations: list[dict[str, str]] = Field(description="Without what is empty.")
    temporary: str = Field(description="Most that may lie in /tmp.")
    shared_memory: str = Field(description="Size of /dev/shm; empty: as the runtime says.")
    timeout_s: Count = Field(description="Longest time of one try.")


class Spread(Section):
    """Over how many processes a training is spread."""

    nodes: Count
    processes: Count = Field(description="On each node.")
    job: Job | None = Field(default=None, description="Of the nodes, where there are several.")


class Order(Section):
    """One stage, all that it is given, and the workspace that it works in.

    Attributes:
        syncers: Folder of guides and evaluators; empty for `train_syncers`.
    """

    stage: Stage
    workspace: str
    data: str
    syncers: str
    out: str
    params: dict[str, Any]
    run: Run
    paths: Paths
    params_hash: str

    @classmethod
    def of(
        cls,
        stage: Stage,
        *,
        data: Path,
        out: Path,
        params: dict[str, Any],
        run: dict[str, Any],
        paths: dict[str, Any],
        params_hash: str,
        syncers: Path | None = None,
    ) -> "Order":
        """Check what a stage is given, before anything is started.

        Args:
            stage: Its name.
            data: Dataset folder.
            out: Folder that it writes.
            params: Its section.
            run: The section of that name.
            paths: The section of that name.
            params_hash: Of the whole parameter file.
            syncers: Folder of guides and evaluators, for `train_generator`.

        Raises:
            ParamsError: If a section does not fit its schema.
        """
        section = TrainSyncers if stage == "train_syncers" else TrainGenerator
        return cls(
            stage=stage,
            workspace=str(Path.cwd()),
            data=str(data.resolve()),
            syncers=str(syncers.resolve()) if syncers else "",
            out=str(out.resolve()),
            params=validate(section, params, name=stage).model_dump(mode="json"),
            run=validate(Run, run, name="run"),
            paths=validate(Paths, paths, name="paths"),
            params_hash=params_hash,
        )

    @classmethod
    def read(cls, path: Path) -> "Order":
        """Read one that was written.

        Raises:
            InputError: If there is none.
        """
        try:
            return cls.model_validate_json(path.read_text())
        except (OSError, ValidationError) as error:
            raise InputError(
                f"{path} is no order that a launcher wrote: do the processes see the workspace?"
            ) from error

    def write(self, path: Path) -> None:
        """Write it for other processes."""
        records.write_text(path, self.model_dump_json(indent=1) + "\n")


def work(order: Order) -> dict[str, float]:
    """Train in this process: alone, or as one of those that `torchrun` started.

    Args:
        order: What.

    Returns:
        What the stage returns.
    """
    data, out = Path(order.data), Path(order.out)
    if order.stage == "train_syncers":
        from mssync.stages import train_syncers

        return train_syncers.run(
            data,
            out,
            validate(TrainSyncers, order.params, name=order.stage),
            run=order.run,
            paths=order.paths,
            params_hash=order.params_hash,
        )
    from mssync.stages import train_generator

    return train_generator.run(
        data,
        Path(order.syncers),
        out,
        validate(TrainGenerator, order.params, name=order.stage),
        run=order.run,
        paths=order.paths,
        params_hash=order.params_hash,
    )
