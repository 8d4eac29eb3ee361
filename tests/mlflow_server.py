"""A real MLflow server on loopback that can be stopped and started again."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import mlflow


class Server:
    """A server with a folder of its own and an address that it keeps."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process = None

    def start(self):
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "log"
        with log.open("a") as output:
            self._process = subprocess.Popen(
                [
                    Path(sys.executable).with_name("mlflow"),
                    *("server", "--host", "127.0.0.1", "--port", str(self.port)),
                    *("--workers", "1", "--backend-store-uri", "sqlite:///mlflow.db"),
                    *("--artifacts-destination", "artifacts"),
                ],
                env=os.environ
                | {
                    "HOME": str(self.folder),
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                },
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"the server did not come up:\n{log.read_text()}")

    def stop(self):
        """Kill it, as a machine that goes away does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=20)
            self._process = None

    @property
    def client(self):
        return mlflow.MlflowClient(self.uri)

    def runs(self, experiment):
        """All runs of an experiment."""
        found = self.client.get_experiment_by_name(experiment)
        return self.client.search_runs([found.experiment_id]) if found else []

    def history(self, run, name):
        """Steps and values of a metric, in order of time."""
        found = self.client.get_metric_history(run.info.run_id, name)
        return [(each.step, each.value) for each in sorted(found, key=lambda m: m.timestamp)]


class Door:
    """Another address of a server, where nobody answers until it is opened.

    Starting a server takes long; a connection that is refused is the same to who asks.
    """

    def __init__(self, server):
        self._server = server
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.client, self.runs, self.history = server.client, server.runs, server.history

    def open(self):
        """Let connections through."""
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        """Refuse connections again."""
        self._listener.close()

    def _serve(self):
        while True:
            try:
                asking, _ = self._listener.accept()
            except OSError:
                return
            answering = socket.create_connection(("127.0.0.1", self._server.port))
            for pair in ((asking, answering), (answering, asking)):
                threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source, target):
    try:
        while block := source.recv(65536):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()
