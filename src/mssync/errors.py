"""Every error this project raises on purpose.

MsSyncError
├── ParamsError            params.yaml asks for something impossible: fix the file
├── InputError             a file or folder handed to a command is missing or of the wrong form
├── ClipRejectedError      one clip is unusable: the stage records why and carries on
├── StageFailedError       the stage has nothing to hand on: the run stops
├── TrainingDivergedError  the loss is no longer finite: lower the learning rate
└── ToolError              an outside tool (ffmpeg, dvc, git) failed or is missing
"""


class MsSyncError(Exception):
    """Base of all errors raised on purpose: one message for the user, exit code 1.

    Attributes:
        code: Short name of the cause, for tables and failure reports.
    """

    code = "error"


class ParamsError(MsSyncError):
    """`params.yaml` does not fit the schema."""

    code = "params"


class InputError(MsSyncError):
    """A file or folder handed to a command is missing or of the wrong form."""

    code = "input"


class ClipRejectedError(MsSyncError):
    """One clip is unusable.

    Attributes:
        reason: Short code of the cause, for tables (`no_face`, `corrupt`, ...).
    """

    code = "clip_rejected"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StageFailedError(MsSyncError):
    """A stage has nothing to hand on."""

    code = "stage_failed"


class TrainingDivergedError(MsSyncError, FloatingPointError):
    """The loss is no longer finite: lower the learning rate."""

    code = "diverged"


class ToolError(MsSyncError):
    """An outside tool failed or is missing."""

    code = "tool"
