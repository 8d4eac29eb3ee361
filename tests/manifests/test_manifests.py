"""The manifests, as far as they can be checked without a cluster."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity
from kubernetes_validate import latest_version, validate

from mssync.params import load
from pipeline import resources

NAMESPACE = "mssync"
CLUSTER_SCOPED = {"Namespace"}
SCHEMAS = ["1.31", latest_version()]
PROBES = ["startupProbe", "readinessProbe", "livenessProbe"]
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


@pytest.fixture(scope="session")
def base(root):
    return root / "manifests" / "base"


@pytest.fixture(scope="session")
def rendered(base):
    """What `kubectl apply -k` would send."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl on PATH to render with")
    result = subprocess.run(
        [kubectl, "kustomize", str(base)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # deprecated fields
    return list(yaml.safe_load_all(result.stdout))


@pytest.fixture(scope="session")
def objects(base, request):
    """The rendered objects, or those of the files where nothing can render them."""
    if shutil.which("kubectl"):
        return request.getfixturevalue("rendered")
    paths = [path for path in sorted(base.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [item for path in paths for item in yaml.safe_load_all(path.read_text())]


@pytest.fixture(scope="session")
def pods(objects):
    """Pod specs, by the name of what makes them."""
    found = {}
    for item in objects:
        spec = item["spec"] if item["kind"] == "Pod" else item.get("spec", {}).get("template")
        if spec:
            found[item["metadata"]["name"]] = spec if item["kind"] == "Pod" else spec["spec"]
    assert found
    return found


@pytest.fixture(scope="session")
def containers(pods):
    return [
        (pod, container)
        for pod in pods.values()
        for container in [*pod.get("initContainers", []), *pod["containers"]]
    ]


def named(objects, kind):
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


def test_the_kustomization_lists_every_file_of_the_folder(base):
    listed = yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    files = {path.name for path in base.glob("*.y*ml")} - {"kustomization.yaml"}
    assert sorted(listed) == sorted(files)


def test_rendering_loses_no_object(base, rendered):
    files = [path for path in base.glob("*.yaml") if path.name != "kustomization.yaml"]
    written = [item for path in files for item in yaml.safe_load_all(path.read_text())]
    names = [(item["kind"], item["metadata"]["name"]) for item in rendered]
    assert sorted(names) == sorted((item["kind"], item["metadata"]["name"]) for item in written)
    assert len(set(names)) == len(names)


def test_every_name_is_one_that_a_server_takes(objects, containers):
    names = [item["metadata"]["name"] for item in objects]
    names += [container["name"] for _, container in containers]
    ports = [port["name"] for _, container in containers for port in container["ports"]]
    assert all(re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in names)
    assert all(re.fullmatch("[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", port) for port in ports)


@pytest.mark.parametrize("version", SCHEMAS)
def test_every_object_fits_the_schema_and_has_no_unknown_field(objects, version):
    for item in objects:
        assert version.startswith(validate(item, version, strict=True))


def test_every_object_is_in_the_namespace(rendered):
    assert list(named(rendered, "Namespace")) == [NAMESPACE]
    for item in rendered:
        expected = None if item["kind"] in CLUSTER_SCOPED else NAMESPACE
        assert item["metadata"].get("namespace") == expected, item["metadata"]["name"]


def test_the_namespace_refuses_pods_that_are_not_restricted(objects):
    labels = named(objects, "Namespace")[NAMESPACE]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_object_says_what_it_is_and_what_it_is_part_of(rendered):
    for item in rendered:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"]
        assert labels["app.kubernetes.io/part-of"] == "mssync"


def test_every_pod_is_restricted(pods):
    for pod in pods.values():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not pod["securityContext"].get("sysctls")
        for volume in pod.get("volumes", []):
            assert set(volume) - {"name"} <= RESTRICTED_VOLUMES, volume["name"]


def test_every_container_is_restricted_and_cannot_write_its_image(containers):
    for pod, container in containers:
        own = container["securityContext"]
        context = pod["securityContext"] | own
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] >= 10000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not {"privileged", "procMount"} & set(own)
        assert all("hostPort" not in port for port in container.get("ports", []))


def test_every_container_requests_no_more_than_its_limit(containers):
    for _, container in containers:
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(requests)
        assert set(requests) == set(limits)
        for name, quantity in requests.items():
            assert 0 < parse_quantity(quantity) <= parse_quantity(limits[name]), name


def test_a_container_of_a_deployment_has_all_three_probes_on_a_port_it_names(objects):
    for deployment in named(objects, "Deployment").values():
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            ports = {port["name"] for port in container["ports"]}
            assert {container[probe]["httpGet"]["port"] for probe in PROBES} <= ports


def test_every_image_is_pinned_to_a_tag_or_a_digest(rendered, containers):
    for _, container in containers:
        name, _, tag = container["image"].rpartition(":")
        assert name
        assert tag
        assert tag != "latest"


def test_every_deployment_selects_its_own_pods(objects):
    for deployment in named(objects, "Deployment").values():
        spec = deployment["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()


def test_every_service_reaches_one_deployment_on_a_port_that_it_names(objects):
    templates = [item["spec"]["template"] for item in named(objects, "Deployment").values()]
    for service in named(objects, "Service").values():
        selector = service["spec"]["selector"]
        chosen = [
            template["spec"]
            for template in templates
            if selector.items() <= template["metadata"]["labels"].items()
        ]
        assert len(chosen) == 1
        ports = {port["name"] for item in chosen[0]["containers"] for port in item["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_every_claim_config_and_account_that_a_pod_names_is_there(objects, pods):
    claims = set(named(objects, "PersistentVolumeClaim"))
    configs = set(named(objects, "ConfigMap"))
    accounts = set(named(objects, "ServiceAccount"))
    for pod in pods.values():
        assert pod.get("serviceAccountName") in accounts | {None}
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in claims | {None}
            assert volume.get("configMap", {}).get("name") in configs | {None}
        for container in pod["containers"]:
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounts <= set(volumes)
            sources = container.get("envFrom", [])
            assert {item["configMapRef"]["name"] for item in sources} <= configs


def test_a_pod_without_an_account_of_its_own_gets_no_token(pods):
    for name, pod in pods.items():
        assert "serviceAccountName" in pod or pod["automountServiceAccountToken"] is False, name


def test_a_claim_of_one_node_is_never_used_by_two_pods_at_once(objects):
    claims = named(objects, "PersistentVolumeClaim")
    for deployment in named(objects, "Deployment").values():
        for volume in deployment["spec"]["template"]["spec"].get("volumes", []):
            name = volume.get("persistentVolumeClaim", {}).get("claimName")
            if name and claims[name]["spec"]["accessModes"] == ["ReadWriteOnce"]:
                assert deployment["spec"]["replicas"] == 1
                assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_every_role_is_bound_to_an_account_that_is_there(rendered):
    roles, accounts = named(rendered, "Role"), named(rendered, "ServiceAccount")
    bindings = list(named(rendered, "RoleBinding").values())
    assert {binding["roleRef"]["name"] for binding in bindings} == set(roles)
    for binding in bindings:
        assert {subject["name"] for subject in binding["subjects"]} <= set(accounts)
        assert {subject["namespace"] for subject in binding["subjects"]} == {NAMESPACE}


def test_steps_may_read_one_secret_and_one_config_and_delete_nothing(objects):
    for role in named(objects, "Role").values():
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"get", "create", "patch"}
            assert "*" not in [*rule["apiGroups"], *rule["resources"]]
            if set(rule["resources"]) & {"secrets", "configmaps"}:
                assert rule["verbs"] == ["get"]
                assert len(rule["resourceNames"]) == 1


def test_no_secret_is_kept_here(objects):
    for secret in named(objects, "Secret").values():
        assert not {"data", "stringData"} & set(secret), secret["metadata"]["name"]


def test_the_workspace_of_the_steps_can_be_shared_by_several_nodes(objects):
    claim = named(objects, "PersistentVolumeClaim")[resources.CLAIM]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_clusters_parameters_name_the_service(root, objects):
    address = urlsplit(load(root / "params.cluster.yaml").paths.tracking_uri)
    assert address.scheme == "http"
    service, *rest = str(address.hostname).split(".")
    assert rest == [NAMESPACE, "svc"]
    ports = named(objects, "Service")[service]["spec"]["ports"]
    assert address.port in {port["port"] for port in ports}


@pytest.fixture(scope="module")
def container(pods):
    [found] = pods["mlflow"]["containers"]
    return found


@pytest.fixture(scope="module")
def server(container, tmp_path_factory):
    """MLflow itself, started as the manifest says; other folders, another address."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts) == {"/mlflow", "/tmp"}
    [declared] = [item["containerPort"] for item in container["ports"]]
    replaced = {"0.0.0.0": "127.0.0.1", str(declared): str(port)}
    args = [replaced.get(arg, arg).replace("/mlflow/", f"{folder}/") for arg in container["args"]]
    assert args != container["args"]
    program = Path(sys.executable).with_name(container["command"][0])
    environment = {item["name"]: item["value"] for item in container["env"]}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, *container["command"][1:], *args],
            env=os.environ | environment | {"HOME": str(folder)},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, port, container["startupProbe"], folder / "log")
        yield port, folder
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)


def _wait(process, port, probe, log):
    deadline = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"]
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if _probe(port, probe) == 200:
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not come up:\n{log.read_text()}")


def _probe(port, probe):
    """Status of a probe as the kubelet sends it: by the pod's address, unless headers say else."""
    wanted = {item["name"]: item["value"] for item in probe["httpGet"].get("httpHeaders", [])}
    return _get(port, probe["httpGet"]["path"], {"Host": "10.244.1.7:5000"} | wanted)[0]


def _get(port, path, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


EXPERIMENT = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"


@pytest.mark.parametrize("probe", PROBES)
def test_the_server_answers_its_probes(server, container, probe):
    assert _probe(server[0], container[probe]) == 200


def test_the_server_accepts_the_services_name(server, root):
    address = urlsplit(load(root / "params.cluster.yaml").paths.tracking_uri)
    status, body = _get(server[0], EXPERIMENT, {"Host": address.netloc})
    assert status == 200
    assert '"artifact_location": "mlflow-artifacts:' in body  # steps send files to the server


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:5000", "mlflow:5000"])
def test_the_server_accepts_a_forwarded_port_and_its_short_name(server, host):
    assert _get(server[0], EXPERIMENT, {"Host": host})[0] == 200


@pytest.mark.parametrize("host", ["mlflow.example.org:5000", "10.244.1.7:5000"])
def test_the_server_refuses_other_names(server, host):
    assert _get(server[0], EXPERIMENT, {"Host": host})[0] == 403


def test_the_server_keeps_its_database_on_its_volume(server):
    assert (server[1] / "mlflow.db").is_file()
