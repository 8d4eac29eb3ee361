"""A training as a job of the cluster: started, followed, waited for, and always removed."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from mssync import log, steps
from mssync.errors import ProcessFailedError, ToolError, TrainingStoppedError, WorkerLostError
from mssync.launch import outcome, pods, trainjob
from mssync.launch.cluster import Cluster, UnreachableError
from mssync.launch.order import Job, Spread
from mssync.launch.trainjob import Ending, Object

logger = logging.getLogger(__name__)

# Between two looks: soon in the beginning, then less and less often.
FIRST_S, LAST_S, GROWTH = 0.5, 10.0, 1.3
# How long the API may be silent, and how long an image may be missing.
PATIENCE_S = 600.0
# What is left of a step's time when its job is ended, so that it can still say so.
MARGIN = 0.05
# How long to wait for the nodes when this process is to end itself: Kubernetes gives it 30 s.
HURRY_S = 20.0
# More than between two looks, for clocks that do not agree.
_OVERLAP_S = 30


def run(stage: str, order_file: Path, spread: Spread, *, stop: Callable[[], bool]) -> None:
    """Work on an order on several nodes.

    A job that an earlier try of the same order left at work is waited for; any other of its name is
    replaced. In the end there is none.

    Args:
        stage: What is trained.
        order_file: The order, beside which the nodes leave their reports.
        spread: How many nodes and processes, and what a node is.
        stop: Whether this process was asked to stop; the nodes then store what they have.

    Raises:
        ToolError: If the cluster refuses, or does not answer for minutes.
        TrainingStoppedError: If it was asked to stop, or its time is up.
        ProcessFailedError: If a node failed, with its reason.
        WorkerLostError: If the job was removed by somebody else.
    """
    job, cluster, report = _of(spread), Cluster(), order_file.parent
    run_id = os.environ.get(steps.RUN_ID, "unnamed")
    body = trainjob.describe(
        stage, run_id, spread, job, order_file=order_file, environment=os.environ
    )
    name = body["metadata"]["name"]
    try:
        _submit(cluster, body, report)
        watch = _Watch(cluster, name)
        ending = watch.until_it_ends(job.timeout_s * (1 - MARGIN), stop)
    finally:
        _remove(cluster, name, patience_s=HURRY_S if stop() else trainjob.GRACE_S + _OVERLAP_S)
    if not ending:
        raise TrainingStoppedError("stopped by SIGTERM; run it again to go on from there")
    if not ending.well:
        _explain(report, ending, watch, spread.processes)


def _of(spread: Spread) -> Job:
    if not spread.job:
        raise ToolError(
            "several nodes are a job of the cluster, and the graph was compiled without one: "
            "compile it again (python -m pipeline compile)"
        )
    return spread.job


def _submit(cluster: Cluster, body: Object, report: Path) -> None:
    name = body["metadata"]["name"]
    left = cluster.job(name)
    if left and trainjob.same(left, body) and trainjob.works(left):
        logger.info("the job %s is at work already: an earlier try began it", name)
        return
    if left:
        logger.info("the job %s is left over from an earlier try: it is replaced", name)
        _remove(cluster, name, patience_s=trainjob.GRACE_S + _OVERLAP_S)
    outcome.clear(report)
    cluster.create(body)
    logger.info("the job %s is created in the namespace %s", name, cluster.namespace)


def _remove(cluster: Cluster, name: str, *, patience_s: float) -> None:
    """Delete a job, and wait until its nodes have stored what they have."""
    until = time.monotonic() + patience_s
    while True:
        try:
            cluster.delete(name)
            if not cluster.job(name):
                return
        except UnreachableError as error:
            logger.warning("the job %s cannot be removed yet: %s", name, error)
        except ToolError as error:  # what came before it says more
            logger.error("the job %s cannot be removed: %s", name, error)
            return
        if time.monotonic() > until:
            logger.warning("the job %s is still ending (kubectl get trainjob %s)", name, name)
            return
        time.sleep(FIRST_S)


class _Watch:
    """Looks at a job until it ends, and passes on what its first node says."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.pods: Sequence[Object] = []
        self._cluster, self._name = cluster, name
        self._answered = time.monotonic()
        self._read = dict[str, tuple[float | None, str]]()
        self._told = set[str]()
        self._stuck_since: float | None = None
        self._sees_pods = True

    def until_it_ends(self, limit_s: float, stop: Callable[[], bool]) -> Ending | None:
        """Look again and again.

        Args:
            limit_s: How long at most.
            stop: Whether not to wait any longer; the answer is then None.
        """
        until, pause_s = time.monotonic() + limit_s, FIRST_S
        while True:
            ending = self._look()
            if ending:
                return ending
            if stop():
                return None
            if time.monotonic() > until:
                raise TrainingStoppedError(
                    f"the job {self._name} was not through within {limit_s:.0f} s (timeout_s in "
                    "the table of resources): the next try goes on from its last checkpoint"
                )
            _sleep(pause_s, stop)
            pause_s = min(LAST_S, GROWTH * pause_s)

    def _look(self) -> Ending | None:
        try:
            found = self._cluster.job(self._name)
            ending = trainjob.ending(found) if found else None
            self._look_at_pods()
        except UnreachableError as error:
            if time.monotonic() - self._answered > PATIENCE_S:
                raise
            self._say(str(error))
            return None
        self._answered = time.monotonic()
        if not found:
            raise WorkerLostError(f"the job {self._name} was removed by somebody else")
        return ending

    def _look_at_pods(self) -> None:
        """Their log and their troubles; without the right to see them the job goes on."""
        if not self._sees_pods:
            return
        try:
            found = self._cluster.pods(self._name)
            self.pods = found or self.pods  # they may go before the job says how it ended
            for pod in found:
                if pods.node_of(pod) == 0:
                    self._pass_on(pod["metadata"]["name"])
        except UnreachableError:
            raise
        except ToolError as error:
            self._sees_pods = False
            logger.warning("%s; what the nodes say stays in the cluster", error)
        self._complain()

    def _pass_on(self, pod: str) -> None:
        began = time.monotonic()
        seen_s, last = self._read.get(pod, (None, ""))
        since_s = None if seen_s is None else int(began - seen_s) + _OVERLAP_S
        lines = [line.partition(" ") for line in self._cluster.log(pod, since_s=since_s)]
        for when, _, text in lines:
            if when > last:
                log.pass_on(text)
        self._read[pod] = began, max([last, *(when for when, _, _ in lines)])

    def _complain(self) -> None:
        in_vain = False
        for text, hopeless in pods.waiting(self.pods):
            self._say(text)
            in_vain = in_vain or hopeless
            if hopeless and self._stuck_since and self._stuck_for() > PATIENCE_S:
                raise ProcessFailedError("tool", text)
        self._stuck_since = (self._stuck_since or time.monotonic()) if in_vain else None

    def _stuck_for(self) -> float:
        return time.monotonic() - (self._stuck_since or time.monotonic())

    def _say(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            logger.warning("%s", text)


def _sleep(duration_s: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + duration_s
    while time.monotonic() < until and not stop():
        time.sleep(0.1)


def _explain(report: Path, ending: Ending, watch: _Watch, processes: int) -> NoReturn:
    """Fail as the process did that failed first: its report says why, else its pod."""
    found = outcome.failure(report)
    death = next(pods.deaths(watch.pods), None)
    if death and (not found or not (outcome.explains(found) or death[0] == "tool")):
        raise ProcessFailedError(*death)
    otherwise = f"the job failed without a report of a process: {ending.message}"
    if found and (node := outcome.rank(found) // processes):
        logger.error("this is what node %d said last:", node)
        for line in found.log:
            log.pass_on(line)
    outcome.raise_for(found, stopped=False, otherwise=otherwise)
