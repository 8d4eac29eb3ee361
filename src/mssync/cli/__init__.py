"""The command line: one command per stage, and a few to start, look and decide."""

import gc
import logging
import sys
from collections.abc import Callable

import typer

from mssync import log
from mssync.cli import data, stages, use
from mssync.errors import MsSyncError

logger = logging.getLogger(__name__)

app = typer.Typer(
    help="Audio-driven talking heads in the 2D-landmark domain: data, training, evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# In the order of the help.
_COMMANDS: tuple[Callable[..., None], ...] = (
    stages.download_videos,
    data.import_sources,
    stages.extract_landmarks,
    stages.extract_audio,
    stages.build_dataset,
    stages.train_syncers,
    stages.train_generator,
    stages.evaluate,
    stages.promote,
    use.demo,
    use.rollback,
    use.reproduce,
    use.generate,
    use.funnel,
    data.validate,
    data.versions,
    data.diff,
    data.preflight,
    data.offsets,
    data.takedown,
    use.compare,
    use.preview,
    use.weights,
    use.links,
    use.send_runs,
    use.doctor,
)
for _command in _COMMANDS:
    app.command()(_command)

# Tables of a large dataset are millions of small objects, none of them in a cycle: looking through
# all of them again and again takes a quarter of the time of a build.
_OBJECTS_BETWEEN_COLLECTIONS = (100_000, 50, 100)


def main() -> None:
    """Run the command line."""
    gc.set_threshold(*_OBJECTS_BETWEEN_COLLECTIONS)
    guarded(app)


def guarded(command: Callable[[], object]) -> None:
    """Run a command line; an error raised on purpose is one message and an exit code.

    The code is 1, but for a training that was told to stop (75: run it again).
    """
    try:
        log.set_up()
        command()
    except (MsSyncError, OSError) as error:
        logger.error("%s", error)
        sys.exit(getattr(error, "exit_code", 1))
