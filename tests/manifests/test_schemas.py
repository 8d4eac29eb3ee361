"""Every object fits the schema of its kind, Kubernetes' own and those of Kubeflow."""

import copy

import pytest
from kubernetes_validate import latest_version, validate
from kubernetes_validate.utils import ValidationError

from tests import schemas

VERSIONS = ["1.31", "1.34", latest_version()]
TRAINER = "trainer.kubeflow.org/v1alpha1"


def builtin(item):
    group, slash, _ = item["apiVersion"].rpartition("/")
    return not slash or "." not in group or group.endswith(".k8s.io")


@pytest.fixture(scope="session")
def runtime(rendered):
    [found] = [item for item in rendered["overlays/gpu"] if item["kind"] == "TrainingRuntime"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_schema_and_has_no_unknown_field(objects, version):
    for item in filter(builtin, objects):
        assert version.startswith(validate(item, version, strict=True))


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_every_template_of_a_secret_fits_the_schema(secrets, version):
    for item in secrets:
        validate(item, version, strict=True)


def test_an_unknown_field_is_found(rendered):
    item = copy.deepcopy(rendered["base"][0])
    item["spec"] = {"finaliser": []}
    with pytest.raises(ValidationError):
        validate(item, VERSIONS[-1], strict=True)


def test_every_object_of_a_custom_kind_fits_its_definition(objects, definitions):
    for item in objects:
        if not builtin(item):
            assert schemas.problems(item, definitions) == []


def test_only_the_runtime_is_of_a_custom_kind(rendered):
    kinds = {
        (folder, item["kind"])
        for folder, items in rendered.items()
        for item in items
        if not builtin(item)
    }
    assert kinds == {("overlays/gpu", "TrainingRuntime")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["mlPolicy"]["torch"].update(numProcPerNode="auto"), "numProcPerNode"),
        (lambda spec: spec["mlPolicy"].update(numNodes="two"), "not of type 'integer'"),
        (lambda spec: spec.update(podSpecOverrides=[]), "podSpecOverrides"),
        (lambda spec: spec["template"]["spec"]["replicatedJobs"][0].pop("name"), "'name' is a req"),
    ],
)
def test_what_the_server_would_drop_or_refuse_is_found(runtime, definitions, change, message):
    changed = copy.deepcopy(runtime)
    change(changed["spec"])
    assert any(message in each for each in schemas.problems(changed, definitions))


def test_a_job_that_names_the_runtime_fits_its_definition(runtime, definitions):
    """What a step sends: the runtime of the namespace, two machines, eight processes on each."""
    job = {
        "apiVersion": TRAINER,
        "kind": "TrainJob",
        "metadata": {"generateName": "train-generator-", "namespace": "mssync"},
        "spec": {
            "runtimeRef": {"kind": "TrainingRuntime", "name": runtime["metadata"]["name"]},
            "trainer": {"numNodes": 2, "numProcPerNode": 8, "args": ["-m", "mssync", "--help"]},
        },
    }
    assert schemas.problems(job, definitions) == []
    job["spec"]["podSpecOverrides"] = []  # its name until Trainer 2.0
    assert schemas.problems(job, definitions)
