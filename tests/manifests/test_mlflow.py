"""MLflow as the manifest starts it: a real server, a real PostgreSQL, a bucket of moto's server."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import psycopg
import pytest
import torch
from moto.server import ThreadedMotoServer
from safetensors.torch import load_file, save_file

from manifests.pod_checks import PROBES
from mssync import tracking
from mssync.params import load
from pipeline import resources
from tests.manifests import postgres

SHA256 = "a" * 64
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-bucket",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def container(rendered):
    [deployment] = [item for item in rendered["base"] if item["kind"] == "Deployment"]
    [found] = deployment["spec"]["template"]["spec"]["containers"]
    return found


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """PostgreSQL; SQLite where it is not installed, which the probes do not mind."""
    folder = tmp_path_factory.mktemp("database")
    if postgres.programs() is None:
        yield f"sqlite:///{folder}/mlflow.db"
        return
    with postgres.running(folder / "log") as address:
        yield address


@pytest.fixture(scope="module")
def bucket():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name=KEYS["AWS_DEFAULT_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket="artifacts")
    yield url, client
    server.stop()


class Server:
    """MLflow with the arguments and variables of the manifest, but for the address."""

    def __init__(self, container, secrets, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        [declared] = [item["containerPort"] for item in container["ports"]]
        other = {"0.0.0.0": "127.0.0.1", str(declared): str(self.port)}
        self._command = [
            Path(sys.executable).with_name(container["command"][0]),
            *container["command"][1:],
            *(other.get(argument, argument) for argument in container["args"]),
        ]
        # as the kubelet fills them in; only those of an optional key may be missing
        variables = {
            item["name"]: item["value"]
            if "value" in item
            else secrets[item["valueFrom"]["secretKeyRef"]["key"]]
            for item in container["env"]
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MLFLOW_"))}
        self._environment = clean | variables | {"HOME": str(folder)}
        self._probe, self._folder, self.process = container["startupProbe"], folder, None
        self.uri = f"http://127.0.0.1:{self.port}"

    @property
    def log(self):
        return self._folder / "log"

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 300  # a machine that tests may be busier than a node
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.answer(self._probe) == 200:
                    return
            except OSError:
                time.sleep(0.2)
        pytest.fail(f"the server did not come up:\n{self.log.read_text()}")

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=20)

    def answer(self, probe):
        """Status of a probe as the kubelet sends it: by the pod's address."""
        return self.get(probe["httpGet"]["path"], "10.244.1.7:5000")[0]

    def get(self, path, host):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(container, database, bucket, tmp_path_factory):
    secrets = KEYS | {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://artifacts/mlflow",
        "MLFLOW_S3_ENDPOINT_URL": bucket[0],
    }
    found = Server(container, secrets, tmp_path_factory.mktemp("mlflow"))
    found.start()
    yield found
    found.stop()


EXPERIMENT = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"


@pytest.mark.parametrize("probe", PROBES)
def test_the_server_answers_its_probes(server, container, probe):
    assert server.answer(container[probe]) == 200


def test_the_server_accepts_the_services_name(server, root):
    address = urlsplit(load(root / "params.cluster.yaml").paths.tracking_uri)
    status, body = server.get(EXPERIMENT, address.netloc)
    assert status == 200
    assert '"artifact_location": "mlflow-artifacts:' in body  # steps send files to the server


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:5000", "mlflow:5000"])
def test_the_server_accepts_a_forwarded_port_and_its_short_name(server, host):
    assert server.get(EXPERIMENT, host)[0] == 200


@pytest.mark.parametrize("host", ["mlflow.example.org:5000", "10.244.1.7:5000"])
def test_the_server_refuses_other_names(server, host):
    assert server.get(EXPERIMENT, host)[0] == 403


def test_no_secret_is_in_the_servers_process_list_or_log(server, database):
    group = server.process.pid
    lines = [
        path.read_bytes()
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if os.getpgid(int(path.parent.name)) == group
    ]
    assert lines
    known = [KEYS["AWS_SECRET_ACCESS_KEY"], urlsplit(database).password or database]
    for secret in known:
        assert not any(secret.encode() in line for line in lines)
        assert secret not in server.log.read_text()


def test_runs_files_and_the_champion_are_kept_in_postgresql_and_in_the_bucket(
    server, database, bucket, tmp_path, monkeypatch, caplog
):
    if postgres.programs() is None:
        pytest.skip("there is no PostgreSQL here (Debian: postgresql)")
    monkeypatch.chdir(tmp_path)
    weights = {"layer": torch.arange(1 << 20, dtype=torch.float32)}
    (tmp_path / "generator").mkdir()
    save_file(weights, tmp_path / "generator" / "weights.safetensors")
    (tmp_path / "generator" / "generator.json").write_text(json.dumps({"sha256": SHA256}))
    with tracking.mlflow_run(
        server.uri,
        "on-postgresql",
        name="train-generator",
        key="key",
        tags={"dataset_revision": "r1"},
        params={"steps": 3, "generator": {"width": 8}},
    ) as tracker:
        for step in range(3):
            tracker.log({"train/loss": 1 / (step + 1)}, step)
        tracker.log_files(tmp_path / "generator", "generator")
        tracker.tag({tracking.MODEL_TAG: SHA256})
        tracker.made(SHA256)
    run_id = tracking.recall_run(SHA256)
    version = tracking.register_champion(
        server.uri,
        "on-postgresql",
        run_id=run_id,
        artifact="generator",
        tags={"sha256": SHA256, "dataset_revision": "r1"},
        card="# A card",
    )
    server.stop()
    server.start()

    for variable, value in resources.THROUGH_MLFLOW.items():
        monkeypatch.setenv(variable, value)
    caplog.clear()
    history = tracking.metric_history(server.uri, run_id, ["train/loss"])
    assert history == {"train/loss": ([0, 1, 2], [1, 1 / 2, 1 / 3])}
    champion = tracking.champion(server.uri, "on-postgresql")
    assert (champion.version, champion.sha256, champion.dataset_revision) == (version, SHA256, "r1")
    found = load_file(champion.folder / "weights.safetensors")
    assert torch.equal(found["layer"], weights["layer"])
    asked = [message for message in caplog.messages if "weights.safetensors" in message]
    assert asked
    assert not any("X-Amz-Signature" in message for message in asked)  # by the server, not by us
    for variable in resources.THROUGH_MLFLOW:
        monkeypatch.delenv(variable)
    tracking.champion(server.uri, "on-postgresql")
    assert any("X-Amz-Signature" in message for message in caplog.messages)  # else by us
    keys = [each["Key"] for each in bucket[1].list_objects_v2(Bucket="artifacts")["Contents"]]
    assert any(key.endswith(f"{run_id}/artifacts/generator/weights.safetensors") for key in keys)
    assert all(key.startswith("mlflow/") for key in keys)
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT status FROM runs WHERE run_uuid = %s", (run_id,))
        assert found.fetchall() == [("FINISHED",)]
