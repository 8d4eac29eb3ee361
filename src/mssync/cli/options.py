"""What several commands ask for in the same words."""

from pathlib import Path
from typing import Annotated

import typer

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
