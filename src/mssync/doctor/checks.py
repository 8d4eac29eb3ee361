"""Every check, in the order in which it is told."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mssync.doctor import machine, selftest, workspace
from mssync.doctor.finding import Finding, checked, warning
from mssync.errors import ParamsError
from mssync.params import Params, load

_PROJECT = Path(__file__).parents[3]  # of a checkout; an installed library has no locks there


def examine(params_file: Path) -> Iterator[Finding]:
    """Look at the machine, at the workspace (the working folder), and try the chain in small.

    Nothing is changed. What takes long without computing runs beside the rest.

    Args:
        params_file: The parameter file that is used.
    """
    params: Params | None
    try:
        params = load(params_file)
    except ParamsError:
        params = None  # told by the check of the parameters
    project = Path() if machine.LOCK.exists() else _PROJECT
    with ThreadPoolExecutor(2) as beside:
        tracking = beside.submit(_all, "tracking", lambda: workspace.tracking_store(params))
        tools = beside.submit(_all, "dvc", workspace.tools)
        yield from checked("python", machine.python)
        yield from checked("packages", lambda: machine.packages(project))
        yield from checked("torch", lambda: machine.torch_here(params))
        yield from checked("ffmpeg", machine.ffmpeg_here)
        yield from checked("weights", lambda: machine.weights_here(params))
        yield from checked("disk", lambda: machine.space(params))
        yield from checked("parameters", lambda: workspace.params_files(params_file))
        yield from checked("media store", workspace.media_store)
        yield from checked("environment", workspace.environment)
        yield from tools.result()
        yield from tracking.result()
        if params:
            used = params
            yield from checked("self-test", lambda: selftest.run(used))
        else:
            yield warning("self-test", "not run: there are no parameters", "see parameters")


def _all(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    return list(checked(name, check))
