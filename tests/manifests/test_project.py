"""The manifests and the rest of the project agree."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from manifests.objects import named
from manifests.render import render
from mssync.params import load
from pipeline import compiling, graph, resources
from tests import schemas

NAMESPACE = "mssync"
GIB = 1 << 30


def test_every_object_says_what_it_is_and_what_it_is_part_of(objects):
    for item in objects:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"]
        assert labels["app.kubernetes.io/part-of"] == "mssync"


def test_steps_may_do_what_is_written_here_and_nothing_else(objects):
    [role] = named(objects, "Role").values()
    allowed = {
        (resource, *rule.get("resourceNames", [])): set(rule["verbs"])
        for rule in role["rules"]
        for resource in rule["resources"]
    }
    assert allowed == {
        ("workflowtaskresults",): {"create", "patch"},
        ("configmaps", "kfp-launcher"): {"get"},
        ("secrets", "mlpipeline-minio-artifact"): {"get"},
        ("pods",): {"get", "list", "watch"},
        ("pods/log",): {"get"},
        ("trainjobs",): {"create", "get", "list", "watch", "delete"},
    }


def test_the_workspace_can_be_shared_by_several_nodes_but_in_the_small_overlay(rendered):
    for folder, modes in (
        ("base", ["ReadWriteMany"]),
        ("overlays/gpu", ["ReadWriteMany"]),
        ("overlays/dev", ["ReadWriteOnce"]),
    ):
        claim = named(rendered[folder], "PersistentVolumeClaim")[resources.CLAIM]
        assert claim["spec"]["accessModes"] == modes


def test_the_quota_leaves_room_for_every_step_beside_the_servers(objects):
    [quota] = named(objects, "ResourceQuota").values()
    hard = {key: parse_quantity(value) for key, value in quota["spec"]["hard"].items()}
    for row in resources.load().steps.values():
        assert parse_quantity(row.memory) + 4 * GIB <= hard["requests.memory"]
        assert parse_quantity(row.cpu) + 2 <= hard["requests.cpu"]
    assert hard["requests.nvidia.com/gpu"] >= 1
    claimed = [
        item["spec"]["resources"]["requests"]["storage"]
        for item in named(objects, "PersistentVolumeClaim").values()
    ]
    assert sum(map(parse_quantity, claimed)) <= hard["requests.storage"]


def test_eight_shards_run_side_by_side_within_the_quota(rendered):
    [quota] = named(rendered["base"], "ResourceQuota").values()
    hard = quota["spec"]["hard"]
    rows = [resources.load().steps[name] for name in ("extract_landmarks", "extract_audio")]
    assert 8 * sum(parse_quantity(row.cpu) for row in rows) <= parse_quantity(hard["requests.cpu"])
    memory = parse_quantity(hard["requests.memory"])
    assert 8 * sum(parse_quantity(row.memory) for row in rows) <= memory
    assert int(hard["requests.nvidia.com/gpu"]) == 8  # one a shard


def test_the_clusters_parameters_name_the_service(root, objects):
    address = urlsplit(load(root / "params.cluster.yaml").paths.tracking_uri)
    assert address.scheme == "http"
    service, *rest = str(address.hostname).split(".")
    assert rest == [NAMESPACE, "svc"]
    ports = named(objects, "Service")[service]["spec"]["ports"]
    assert address.port in {port["port"] for port in ports}


def test_a_job_works_on_the_same_folders_as_a_step(rendered):
    [runtime] = named(rendered["overlays/gpu"], "TrainingRuntime").values()
    [job] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]["template"]["spec"]
    [container] = spec["containers"]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {mounts[name]: claim for name, claim in claims.items()} == {
        resources.WORKSPACE: resources.CLAIM
    }
    caches = resources.caches(resources.WORKSPACE)
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables == caches | resources.THROUGH_MLFLOW
    assert spec["securityContext"]["runAsUser"] == resources.USER


def test_the_pages_name_every_object_and_every_secret(manifests, rendered, secrets):
    page = (manifests / "README.md").read_text()
    items = [*secrets, *(item for items in rendered.values() for item in items)]
    for item in items:
        assert f"`{item['metadata']['name']}`" in page, item["metadata"]["name"]


IMAGE = f"r.example.org/mssync@sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def gitops(root, tmp_path_factory, manifests):
    """The folder for GitOps, with the file that the command writes."""
    folder = tmp_path_factory.mktemp("gitops")
    text = (manifests / "gitops" / "kustomization.yaml").read_text()
    (folder / "kustomization.yaml").write_text(text)
    subprocess.run(
        [
            *(sys.executable, "-m", "pipeline", "compile", "--kubernetes", "--shards", "2"),
            *("--image", IMAGE, "--output", folder / "pipeline.yaml"),
        ],
        cwd=root,
        check=True,
        capture_output=True,
    )
    return folder


def written(root, file, write, shards=2):
    """The same graph, as another file."""
    environment = resources.caches(resources.WORKSPACE) | {
        "MSSYNC_IMAGE_DIGEST": IMAGE.partition("@")[2]
    }
    target = graph.Target(IMAGE, environment, table=resources.load())
    # KFP looks through the whole stack at every step, and pytest's is deep; a thread's is empty
    with ThreadPoolExecutor(1) as thread:
        params = load(root / "params.cluster.yaml")
        pipeline = thread.submit(graph.build, params, target, shards=shards).result()
        thread.submit(write, pipeline, file).result()
    return list(yaml.safe_load_all(file.read_text()))


def test_the_pipeline_is_two_objects_of_kubeflows_kinds(gitops, definitions):
    pipeline, version = render(gitops)
    assert schemas.problems(pipeline, definitions) == []
    assert schemas.problems(version, definitions) == []
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "mssync"
    assert {item["metadata"]["namespace"] for item in (pipeline, version)} == {NAMESPACE}


def test_a_version_is_named_by_its_content(gitops, root, tmp_path):
    [_, version] = yaml.safe_load_all((gitops / "pipeline.yaml").read_text())
    assert re.fullmatch("mssync-[0-9a-f]{12}", version["metadata"]["name"])
    [_, same] = written(root, tmp_path / "same.yaml", compiling.write_objects)
    assert same == version
    [_, other] = written(root, tmp_path / "other.yaml", compiling.write_objects, shards=1)
    assert other["metadata"]["name"] != version["metadata"]["name"]


def test_a_version_holds_the_graph_that_is_uploaded_otherwise(gitops, root, tmp_path):
    spec, platform = written(root, tmp_path / "uploaded.yaml", compiling.write)
    [_, version] = yaml.safe_load_all((gitops / "pipeline.yaml").read_text())
    assert version["spec"]["pipelineSpec"] == spec
    assert version["spec"]["platformSpec"] == platform
