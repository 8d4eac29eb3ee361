"""What `evaluate` scores beside the generator: models by any name, and imported outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mssync import tracking
from mssync.errors import InputError
from mssync.metrics import sync
from mssync.metrics.baselines import RETRIEVAL
from mssync.params import Paths
from mssync.stages import _imported
from mssync.stages._imported import Extraction
from mssync.stages._scores import Excerpt, Motion
from mssync.trained import checkpoint
from mssync.trained.networks import GENERATOR

RUN, ALIAS = "run:", "alias:"


@dataclass(frozen=True)
class Others:
    """Systems besides the generator and the champion.

    Attributes:
        models: Name -> folder of its checkpoint.
        imported: Name -> its motion of each piece that all have.
        pieces: Held-out pieces that every imported system has.
        left_out: Name of each other piece -> system -> why it lacks it.
    """

    models: Mapping[str, Path]
    imported: Mapping[str, Sequence[Motion]]
    pieces: Sequence[Excerpt]
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def resolve(
    given: Mapping[str, str],
    pieces: Sequence[Excerpt],
    *,
    taken: Sequence[str],
    paths: Paths,
    lengths: Mapping[str, int],
    smoothing_frames: int,
    extraction: Extraction | None,
    scratch: Path,
) -> Others:
    """Find every system that is named.

    Args:
        given: `evaluate.systems`: name -> `run:ID`, `alias:NAME` or a folder.
        pieces: Held-out pieces.
        taken: Names that mean something else.
        paths: The MLflow store, and the name of the model in it.
        lengths: Frames of each clip.
        smoothing_frames: Width of the mean that the dataset was smoothed by.
        extraction: How landmarks of videos are found; None: they are not.
        scratch: Folder for what is downloaded.

    Raises:
        InputError: If a system cannot be found, or its name is taken.
        ToolError: If the tracking store fails, or has no such run.
    """
    models, motions = dict[str, Path](), dict[str, dict[int, Motion]]()
    reasons = dict[int, dict[str, str]]()
    for name, where in given.items():
        if name in (*taken, RETRIEVAL, sync.CEILING, *sync.FLOORS):
            raise InputError(f"evaluate.systems.{name}: the name is taken, choose another one")
        folder = _model(name, where, paths, scratch)
        if folder:
            models[name] = folder
            continue
        motions[name], missing = _imported.read(
            Path(where),
            pieces,
            lengths=lengths,
            smoothing_frames=smoothing_frames,
            extraction=extraction,
        )
        for index, reason in missing.items():
            reasons.setdefault(index, {})[name] = reason
    common = [index for index in range(len(pieces)) if index not in reasons]
    return Others(
        models=models,
        imported={name: [own[index] for index in common] for name, own in motions.items()},
        pieces=[pieces[index] for index in common],
        left_out={pieces[index].name: why for index, why in sorted(reasons.items())},
    )


def _model(name: str, where: str, paths: Paths, scratch: Path) -> Path | None:
    """Folder of a generator's checkpoint; None for a folder of imported outputs."""
    uri = paths.tracking_uri
    if where.startswith(RUN):
        target = scratch / name
        target.mkdir()
        return tracking.download(uri, where.removeprefix(RUN), GENERATOR, target)
    if where.startswith(ALIAS):
        alias = where.removeprefix(ALIAS)
        found = tracking.champion(uri, paths.model_name, alias=alias)
        if found is None:
            raise InputError(
                f"evaluate.systems.{name}: the registry's model {paths.model_name} has no alias "
                f"{alias}: mssync promote --apply sets {tracking.CHAMPION}"
            )
        return found.folder
    for folder in (Path(where) / GENERATOR, Path(where)):
        if (folder / checkpoint.METADATA).is_file():
            return folder
    if Path(where).is_dir() and _imported.is_import(Path(where)):
        return None
    raise InputError(
        f"evaluate.systems.{name}: {where} is none of: {RUN}ID of an MLflow run, {ALIAS}NAME of "
        "the model registry, a folder with a checkpoint, a folder with videos or landmark files "
        "(.npz, .parquet)"
    )
