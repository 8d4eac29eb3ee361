"""Kubernetes' API on loopback, as far as a launcher uses it; its jobs really run, as processes.

A TrainJob is checked by its definition, started as Trainer would (`torchrun` with $PET_* on each
node), and its status follows its processes. Pods, their states and logs are those of the processes.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import psutil
import yaml

from tests import schemas

NAMESPACE = "mssync"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
INDEX = "batch.kubernetes.io/job-completion-index"
NODE = "MSSYNC_TEST_NODE"  # what the processes of a node are known by


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


class Node:
    """A pod: a process and what it said."""

    def __init__(self, job, number, port):
        trainer = job["spec"]["trainer"]
        self.name = f"{job['metadata']['name']}-node-0-{number}-x7k2p"
        self.number, self.lines = number, []
        self.ending, self.lock = None, threading.Lock()
        (pod,) = (
            each["template"]["spec"]["template"]["spec"]
            for patch in job["spec"]["runtimePatches"]
            for each in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        )
        self.grace_s = pod["terminationGracePeriodSeconds"]
        assert trainer["command"] == ["torchrun"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *trainer["args"]],
            env={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                **{each["name"]: each["value"] for each in trainer["env"]},
                NODE: self.name,
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                "PET_NODE_RANK": str(number),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(port),
                "GLOO_SOCKET_IFNAME": "lo",
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        with self.process.stdout as said:
            for line in said:
                self.lines.append(f"{now()} {line.rstrip()}")

    def end(self):
        """As a kubelet does: one request, and force after the time of grace."""
        with self.lock:
            if self.ending is None and self.process.poll() is None:
                self.ending = threading.Timer(self.grace_s, self.kill)
                self.ending.start()
                self.process.terminate()

    def wait(self):
        """Until it has ended, and everything in it with it, as in a container."""
        self.process.wait()
        self.kill()
        self.reader.join()
        if self.ending:
            self.ending.cancel()

    def kill(self):
        """As the kernel does with a container that takes too much memory."""
        self.process.kill()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(NODE) == self.name:
                    process.kill()

    def state(self):
        code = self.process.poll()
        if code is None:
            return {"running": {"startedAt": now()}}
        killed = code == -signal.SIGKILL
        reason = "OOMKilled" if killed else "Error" if code else "Completed"
        return {"terminated": {"exitCode": 137 if killed else code, "reason": reason}}


class Kubernetes:
    """The cluster.

    Attributes:
        forbidden: Verbs and resources that the account may not.
        trainer: Whether Kubeflow Trainer is installed.
        cannot_start: State of containers that wait; then no process is started.
        seen: Every request, as verb and path.
    """

    def __init__(self):
        self.forbidden, self.trainer, self.cannot_start = set(), True, None
        self.seen, self.jobs, self.nodes = [], {}, {}
        self.definition = schemas.of_kubeflow()
        self.lock = threading.RLock()

    def create(self, job):
        if found := schemas.problems(job, self.definition):
            return refusal(422, "Invalid", "; ".join(found))
        name = job["metadata"]["name"]
        if name in self.jobs:
            return refusal(409, "AlreadyExists", f"{name} already exists")
        self.jobs[name] = job
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        count = 0 if self.cannot_start else job["spec"]["trainer"]["numNodes"]
        self.nodes[name] = [Node(job, number, port) for number in range(count)]
        return 201, job

    def job(self, name):
        if name not in self.jobs:
            return refusal(404, "NotFound", f'trainjobs.trainer.kubeflow.org "{name}" not found')
        self.jobs[name]["status"] = {"conditions": self.conditions(name)}
        return 200, self.jobs[name]

    def conditions(self, name):
        codes = [node.process.poll() for node in self.nodes[name]]
        if any(codes):
            for node in self.nodes[name]:  # a JobSet fails as soon as one of its jobs does
                node.end()
        if not codes or None in codes:
            return []
        kind, reason = ("Failed", "JobSetFailed") if any(codes) else ("Complete", "JobsCompleted")
        return [
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": "jobset ended",
                "lastTransitionTime": now(),
            }
        ]

    def delete(self, name):
        status, job = self.job(name)
        if status == 200 and "deletionTimestamp" not in job["metadata"]:
            job["metadata"]["deletionTimestamp"] = now()
            threading.Thread(target=self.end, args=(name,)).start()
        return status, job

    def end(self, name):
        """Remove a job after its pods."""
        with self.lock:
            nodes = self.nodes[name]
            for node in nodes:
                node.end()
        for node in nodes:
            node.wait()
        with self.lock:
            del self.jobs[name], self.nodes[name]

    def pods(self, name):
        nodes = [(node.name, node.number, node.state()) for node in self.nodes.get(name, [])]
        if name in self.jobs and self.cannot_start:
            nodes = [("waiting-0", 0, {"waiting": self.cannot_start})]
        items = [
            {
                "metadata": {"name": pod, "labels": {INDEX: str(number)}},
                "status": {"containerStatuses": [{"name": "node", "state": state}]},
            }
            for pod, number, state in nodes
        ]
        return 200, {"kind": "PodList", "items": items}

    def log(self, pod):
        for nodes in self.nodes.values():
            for node in nodes:
                if node.name == pod:
                    return 200, "".join(f"{line}\n" for line in node.lines)
        return refusal(400, "BadRequest", f"container node in pod {pod} is waiting to start")

    def answer(self, verb, target, body):
        """Status and content of the answer to a request."""
        path, query = target.path, parse_qs(target.query)
        resource = "trainjobs" if path.startswith(JOBS) else "pods"
        if path.endswith("/log"):
            resource = "pods/log"
        with self.lock:
            self.seen.append((verb, path))
            if (verb, resource) in self.forbidden:
                return refusal(
                    403, "Forbidden", f'User "steps" cannot {verb} resource "{resource}"'
                )
            if resource == "trainjobs" and not self.trainer:
                return 404, "404 page not found\n"
            if resource == "pods":
                return self.pods(query["labelSelector"][0].partition("=")[2])
            if resource == "pods/log":
                return self.log(re.fullmatch(f"{PODS}/(.*)/log", path).group(1))
            if verb == "create":
                return self.create(body)
            name = path.rpartition("/")[2]
            return self.delete(name) if verb == "delete" else self.job(name)


def refusal(code, reason, message):
    return code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message}


@contextmanager
def serve(folder):
    """A cluster, and a file for $KUBECONFIG that leads to it; in the end nothing of it is left."""
    cluster = Kubernetes()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, verb):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            target = urlsplit(self.path)
            if verb == "get" and target.path == PODS:
                verb = "list"
            code, content = cluster.answer(verb, target, body)
            plain = isinstance(content, str)
            sent = (content if plain else json.dumps(content)).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if plain else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def do_GET(self):
            self.answer("get")

        def do_POST(self):
            self.answer("create")

        def do_DELETE(self):
            self.answer("delete")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    named = {
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "steps", "user": {"token": "t"}}],
        "contexts": [
            {"name": "x", "context": {"cluster": "here", "user": "steps", "namespace": NAMESPACE}}
        ],
    }
    file = folder / "kubeconfig"
    file.write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "x", **named})
    )
    try:
        yield cluster, file
    finally:
        for name in list(cluster.jobs):
            cluster.delete(name)
        while cluster.jobs:
            time.sleep(0.05)
        server.shutdown()
        thread.join()
        server.server_close()
