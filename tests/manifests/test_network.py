"""Who may talk to whom, worked out of the network policies as a cluster does."""

import ipaddress

import pytest

from manifests.objects import ENGINE, pods, selects, steps
from pipeline import resources

STEPS = sorted(resources.steps())
TRACKED = {"train_syncers", "train_generator", "evaluate", "promote", "notify"}
ONLINE = {"shard", "download_videos", "publish", "notify"}
PUBLIC, PRIVATE, CLOUD_KEYS = "93.184.215.14", "10.1.2.3", "169.254.169.254"
KUBEFLOW = {"kubernetes.io/metadata.name": "kubeflow"}


def pod(objects, name):
    """Labels and ports of a pod: a step's, or that of an object."""
    for each in steps():
        if each.labels.get(resources.STEP) == name:
            return each
    if name == "driver":
        return next(each for each in steps() if each.labels == ENGINE)
    [found] = [each for each in pods(objects) if each.owner["metadata"]["name"] == name]
    return found


def applying(objects, labels, direction):
    found = [
        item["spec"]
        for item in objects
        if item["kind"] == "NetworkPolicy"
        and direction in item["spec"]["policyTypes"]
        and selects(item["spec"]["podSelector"], labels)
    ]
    assert found  # where none applies, everything is allowed
    return found


def opens(rule, peers, port, names, met):
    asked = [each["port"] for each in rule.get("ports", [])]
    if asked and port not in asked and not set(asked) & names:
        return False
    return peers not in rule or any(met(peer) for peer in rule[peers])


def leaves(objects, labels, port, met, names=frozenset()):
    return any(
        opens(rule, "to", port, names, met)
        for spec in applying(objects, labels, "Egress")
        for rule in spec.get("egress", [])
    )


def to_address(objects, name, address, port=443):
    def met(peer):
        block = peer.get("ipBlock")
        at = ipaddress.ip_address(address)
        return (
            block is not None
            and at in ipaddress.ip_network(block["cidr"])
            and not any(at in ipaddress.ip_network(each) for each in block.get("except", []))
        )

    return leaves(objects, pod(objects, name).labels, port, met)


def to_kubeflow(objects, name, port):
    def met(peer):
        return "namespaceSelector" in peer and selects(peer["namespaceSelector"], KUBEFLOW)

    return leaves(objects, pod(objects, name).labels, port, met)


def to_pod(objects, name, other, port):
    source, target = pod(objects, name), pod(objects, other)
    numbers = {
        each["containerPort"]: each["name"]
        for container in target.containers
        for each in container.get("ports", [])
    }
    names = {numbers[port]} if port in numbers else set()

    def among(labels):
        return lambda peer: (
            "namespaceSelector" not in peer
            and "podSelector" in peer
            and selects(peer["podSelector"], labels)
        )

    return leaves(objects, source.labels, port, among(target.labels), names) and any(
        opens(rule, "from", port, names, among(source.labels))
        for spec in applying(objects, target.labels, "Ingress")
        for rule in spec.get("ingress", [])
    )


@pytest.mark.parametrize("step", STEPS)
def test_only_steps_that_fetch_may_reach_the_internet(objects, step):
    assert to_address(objects, step, PUBLIC) == (step in ONLINE)
    assert to_address(objects, step, PUBLIC, 80) == (step in ONLINE)


@pytest.mark.parametrize("step", STEPS)
def test_no_step_may_ask_a_cloud_for_its_machines_keys(objects, step):
    assert not to_address(objects, step, CLOUD_KEYS, 80)


@pytest.mark.parametrize("step", STEPS)
def test_private_addresses_are_reached_where_kubernetes_api_may_be_and_nowhere_else(objects, step):
    assert to_address(objects, step, PRIVATE, 6443)
    assert not to_address(objects, step, PRIVATE, 80)
    assert not to_address(objects, step, PRIVATE, 5432)


@pytest.mark.parametrize("step", STEPS)
def test_only_steps_that_track_reach_mlflow(objects, step):
    assert to_pod(objects, step, "mlflow", 5000) == (step in TRACKED)
    assert not to_pod(objects, step, "mlflow", 22)


@pytest.mark.parametrize("name", [*STEPS, "driver"])
@pytest.mark.parametrize("port", [8887, 8888, 8080, 9000, 8333])
def test_every_pod_of_a_run_reaches_kubeflow(objects, name, port):
    assert to_kubeflow(objects, name, port)
    assert not to_kubeflow(objects, name, 22)


def test_every_pod_of_ours_is_bound_and_kubeflows_own_are_left_alone(objects):
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    for each in [*pods(objects), *steps()]:
        for direction in ("Ingress", "Egress"):
            assert applying(objects, each.labels, direction)
    for spec in policies:
        assert not selects(spec["podSelector"], {"app": "ml-pipeline-ui-artifact"})


def test_mlflow_reaches_its_database_and_bucket_and_no_step(rendered):
    assert to_address(rendered["base"], "mlflow", PUBLIC, 5432)
    assert to_address(rendered["base"], "mlflow", PUBLIC, 443)
    dev = rendered["overlays/dev"]
    assert to_pod(dev, "mlflow", "postgres", 5432)
    assert to_kubeflow(dev, "mlflow", 9000)
    assert not to_address(dev, "mlflow", PUBLIC, 443)
    for step in STEPS:
        assert not to_pod(dev, step, "postgres", 5432)


def test_processes_of_a_training_job_reach_each_other_and_mlflow_and_nothing_else(rendered):
    gpu = rendered["overlays/gpu"]
    assert to_pod(gpu, "mssync-torch", "mssync-torch", 29500)
    assert to_pod(gpu, "mssync-torch", "mssync-torch", 40123)
    assert to_pod(gpu, "mssync-torch", "mlflow", 5000)
    assert not to_address(gpu, "mssync-torch", PUBLIC)
    assert not to_address(gpu, "mssync-torch", PRIVATE, 6443)
