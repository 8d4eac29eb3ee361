"""Every error this project raises on purpose.

MsSyncError
├── ParamsError            params.yaml asks for something impossible: fix the file
├── InputError             a file or folder handed to a command is missing or of the wrong form
├── ClipRejectedError      one clip is unusable: the stage records why and carries on
├── StageFailedError       the stage has nothing to hand on: the run stops
├── TrainingDivergedError  the loss is no longer finite: lower the learning rate
├── TrainingStoppedError   SIGTERM came, a checkpoint was written: run it again
├── WorkerLostError        a process that shares the work died, mostly for want of memory
├── ProcessFailedError     a process that was started for the work failed: its reason is passed on
└── ToolError              an outside tool (ffmpeg, dvc, git) failed or is missing
"""

from typing import Any

from mssync.reasons import REASONS


class MsSyncError(Exception):
    """Base of all errors raised on purpose: one message for the user.

    Attributes:
        code: Short name of the cause, for tables and failure reports.
        exit_code: What a command that fails of it ends with.
    """

    code = "error"
    exit_code = 1


class ParamsError(MsSyncError):
    """`params.yaml` does not fit the schema."""

    code = "params"


class InputError(MsSyncError):
    """A file or folder handed to a command is missing or of the wrong form."""

    code = "input"


class ClipRejectedError(MsSyncError):
    """One clip is unusable.

    Attributes:
        reason: Short code of the cause, one of `mssync.reasons.REASONS`.
        wait_s: How long the host asks to be left alone; None where it does not say.
    """

    code = "clip_rejected"

    def __init__(self, reason: str, message: str, *, wait_s: float | None = None) -> None:
        assert reason in REASONS, reason
        super().__init__(message)
        self.reason = reason
        self.wait_s = wait_s

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep all of it on the way between processes."""
        return _rejected, (self.reason, str(self), self.wait_s)


def _rejected(reason: str, message: str, wait_s: float | None) -> ClipRejectedError:
    return ClipRejectedError(reason, message, wait_s=wait_s)


class StageFailedError(MsSyncError):
    """A stage has nothing to hand on."""

    code = "stage_failed"


class TrainingDivergedError(MsSyncError, FloatingPointError):
    """The loss is no longer finite: lower the learning rate."""

    code = "diverged"


class TrainingStoppedError(MsSyncError):
    """SIGTERM came; the training goes on from a checkpoint when it is started again."""

    code = "terminated"
    exit_code = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, try again


class WorkerLostError(MsSyncError):
    """A process that shares the work died: killed, mostly for want of memory, or crashed."""

    code = "worker_lost"


class ProcessFailedError(MsSyncError):
    """A process that was started for the work failed, and this is why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ToolError(MsSyncError):
    """An outside tool failed or is missing."""

    code = "tool"
