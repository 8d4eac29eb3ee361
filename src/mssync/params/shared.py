"""Parameters that every stage may read."""

from typing import Literal

from pydantic import Field

from mssync.params.section import Count, Section


class Run(Section):
    """How every stage runs; never changes a result beyond rounding, but for `seed`."""

    seed: int = Field(ge=0, description="Seed of every random draw.")
    device: Literal["auto", "cpu", "cuda"] = Field(description="`auto`: CUDA where there is one.")
    deterministic: bool = Field(
        description="On CUDA, only kernels that give the same result every time; slower."
    )
    threads: Count = Field(description="Threads of torch, fixed because they change rounding.")
    workers: Count = Field(
        description="Worker processes or connections of the data stages, threads that make batches."
    )


class Paths(Section):
    """Where things outside the stages' own inputs and outputs live."""

    tracking_uri: str = Field(
        min_length=1, description="MLflow store; $MLFLOW_TRACKING_URI wins where it is set."
    )
    experiment: str = Field(min_length=1, description="MLflow experiment the runs go to.")
    model_name: str = Field(min_length=1, description="Name of the generator in the registry.")
