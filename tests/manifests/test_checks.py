"""The checks find nothing in what is here, and each finds the mistake that it is for."""

import copy

import pytest

from manifests.check import check


def test_nothing_is_wrong_with_what_is_here(objects, secrets):
    assert check(objects, secrets) == []


def get(objects, kind, name):
    [found] = [
        item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name
    ]
    return found


def spec(objects, kind="Deployment", name="mlflow"):
    return get(objects, kind, name)["spec"]["template"]["spec"]


def container(objects):
    return spec(objects)["containers"][0]


def env(objects, name):
    return next(each for each in container(objects)["env"] if each["name"] == name)


def policy(objects, name):
    return get(objects, "NetworkPolicy", name)["spec"]


def variable(name, value):
    return lambda o: container(o)["env"].append({"name": name, "value": value})


PLANTED = {
    # images and resources
    "no tag": (lambda o: container(o).update(image="mssync"), "an image with a tag"),
    "latest": (lambda o: container(o).update(image="r.io:5/m:latest"), "other than latest"),
    "no image": (lambda o: container(o).pop("image"), "found None"),
    "no memory": (
        lambda o: container(o)["resources"]["requests"].pop("memory"),
        "resources.requests lacks memory",
    ),
    "no limit": (
        lambda o: container(o)["resources"].pop("limits"),
        "resources.limits lacks memory",
    ),
    "too much": (
        lambda o: container(o)["resources"]["requests"].update(memory="2Gi"),
        "requests more memory (2Gi) than its limit (1536Mi)",
    ),
    # rights
    "root": (
        lambda o: spec(o)["securityContext"].update(runAsNonRoot=False),
        "securityContext.runAsNonRoot True, found False",
    ),
    "user 0": (lambda o: spec(o)["securityContext"].update(runAsUser=0), "other than 0"),
    "no seccomp": (lambda o: spec(o)["securityContext"].pop("seccompProfile"), "seccompProfile"),
    "privileges": (
        lambda o: container(o)["securityContext"].pop("allowPrivilegeEscalation"),
        "allowPrivilegeEscalation False, found None",
    ),
    "writes its image": (
        lambda o: container(o)["securityContext"].update(readOnlyRootFilesystem=False),
        "readOnlyRootFilesystem True",
    ),
    "capabilities": (
        lambda o: container(o)["securityContext"].update(capabilities={"add": ["NET_ADMIN"]}),
        "capabilities",
    ),
    "host network": (lambda o: spec(o).update(hostNetwork=True), "hostNetwork"),
    "host path": (
        lambda o: spec(o)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
        "(hostPath)",
    ),
    "token": (lambda o: spec(o).pop("automountServiceAccountToken"), "gets a token"),
    "root runtime": (
        lambda o: get(o, "TrainingRuntime", "mssync-torch")["spec"]["template"]["spec"][
            "replicatedJobs"
        ][0]["template"]["spec"]["template"]["spec"]["securityContext"].update(runAsUser=0),
        "TrainingRuntime/mssync-torch: container node: expected a runAsUser",
    ),
    # probes and ports
    "no probe": (lambda o: container(o).pop("readinessProbe"), "has no readinessProbe"),
    "probe's port": (
        lambda o: container(o)["startupProbe"]["httpGet"].update(port="web"),
        "startupProbe asks port web",
    ),
    "unnamed port": (lambda o: container(o)["ports"][0].pop("name"), "port 5000 has no name"),
    "host port": (lambda o: container(o)["ports"][0].update(hostPort=80), "of the machine"),
    "service's port": (
        lambda o: get(o, "Service", "mlflow")["spec"]["ports"][0].update(targetPort="web"),
        "Service/mlflow: no port of its pods is named web",
    ),
    # selectors
    "deployment's selector": (
        lambda o: get(o, "Deployment", "mlflow")["spec"]["selector"].update(matchLabels={"a": "b"}),
        "does not take its own pods",
    ),
    "service's selector": (
        lambda o: get(o, "Service", "mlflow")["spec"].update(selector={"app": "nobody"}),
        "expected pods of one kind behind it, found 0",
    ),
    "budget's selector": (
        lambda o: get(o, "PodDisruptionBudget", "mlflow")["spec"].update(
            selector={"matchLabels": {"a": "b"}}
        ),
        "PodDisruptionBudget/mlflow: selects no pod",
    ),
    "budget of all": (
        lambda o: get(o, "Deployment", "mlflow")["spec"].update(replicas=1),
        "no node could ever be drained",
    ),
    # network policies
    "policy's selector": (
        lambda o: policy(o, "internet")["podSelector"].update(
            matchLabels={"mssync.egress": "outside"}
        ),
        "NetworkPolicy/internet: its podSelector takes no pod",
    ),
    "policy's expression": (
        lambda o: policy(o, "tracking")["podSelector"]["matchExpressions"][0].update(
            values=["training"]
        ),
        "NetworkPolicy/tracking: its podSelector takes no pod",
    ),
    "policy's peer": (
        lambda o: policy(o, "mlflow")["ingress"][0]["from"][0].update(
            podSelector={"matchLabels": {"mssync.step": "train-generator"}}
        ),
        "NetworkPolicy/mlflow: ingress:",
    ),
    "policy's named port": (
        lambda o: policy(o, "mlflow")["ingress"][0]["ports"][0].update(port="web"),
        "NetworkPolicy/mlflow: port web is none",
    ),
    "policy's number": (
        lambda o: policy(o, "tracking")["egress"][0]["ports"][0].update(port=80),
        "NetworkPolicy/tracking: port 80 is none",
    ),
    "policy's types": (
        lambda o: policy(o, "internet").update(policyTypes=["Ingress"]),
        "has egress rules, but not in policyTypes",
    ),
    # accounts
    "wildcard": (
        lambda o: get(o, "Role", "mssync-steps")["rules"][0].update(verbs=["*"]),
        "allows everything (*) in verbs",
    ),
    "every secret": (
        lambda o: get(o, "Role", "mssync-steps")["rules"].append(
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
        ),
        "reads every secret",
    ),
    "no role": (
        lambda o: get(o, "RoleBinding", "mssync-steps")["roleRef"].update(name="steps"),
        "there is no Role steps",
    ),
    "bound to nobody": (
        lambda o: get(o, "RoleBinding", "mssync-steps")["subjects"][0].update(name="steps"),
        "RoleBinding/mssync-steps: there is no account steps",
    ),
    # references
    "no account": (lambda o: spec(o).update(serviceAccountName="nobody"), "the account nobody"),
    "no claim": (
        lambda o: spec(o)["volumes"].append(
            {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}
        ),
        "volume d: there is no claim data",
    ),
    "no volume": (
        lambda o: container(o)["volumeMounts"].append({"name": "data", "mountPath": "/data"}),
        "mounts data, which is no volume",
    ),
    "no secret": (
        lambda o: env(o, "AWS_ACCESS_KEY_ID")["valueFrom"]["secretKeyRef"].update(name="keys"),
        "reads Secret keys, which is neither there",
    ),
    "no key": (
        lambda o: env(o, "AWS_ACCESS_KEY_ID")["valueFrom"]["secretKeyRef"].update(key="id"),
        "reads the key id of Secret mlflow-artifacts",
    ),
    "no config": (
        lambda o: container(o).update(envFrom=[{"configMapRef": {"name": "settings"}}]),
        "reads ConfigMap settings",
    ),
    "no secret's volume": (
        lambda o: spec(o)["volumes"].append({"name": "s", "secret": {"secretName": "keys"}}),
        "reads Secret keys",
    ),
    "shared disk": (
        lambda o: (
            spec(o)["volumes"].append(
                {"name": "w", "persistentVolumeClaim": {"claimName": "mssync-workspace"}}
            ),
            get(o, "PersistentVolumeClaim", "mssync-workspace")["spec"].update(
                accessModes=["ReadWriteOnce"]
            ),
        ),
        "a volume of one node",
    ),
    "no runtime": (
        lambda o: o.append(
            {
                "kind": "TrainJob",
                "metadata": {"name": "j", "namespace": "mssync"},
                "spec": {"runtimeRef": {"kind": "TrainingRuntime", "name": "torch"}},
            }
        ),
        "TrainJob/j: there is no TrainingRuntime torch",
    ),
    # secrets
    "a value": (
        lambda o: o.append(
            {
                "kind": "Secret",
                "metadata": {"name": "s", "namespace": "mssync"},
                "stringData": {"password": "x"},
            }
        ),
        "Secret/s: holds values",
    ),
    "a password": (variable("DB_PASSWORD", "hunter2"), "DB_PASSWORD is written out"),
    "an address": (
        variable("URI", "postgresql://mlflow:hunter2@db/mlflow"),
        "URI is written out",
    ),
    # names
    "a name": (lambda o: container(o).update(name="C_bad"), "'C_bad': a name is small"),
    "an object's name": (
        lambda o: get(o, "Role", "mssync-steps")["metadata"].update(name="Steps"),
        "Role/Steps: a name is small letters",
    ),
    "twice": (lambda o: o.append(o[-1]), "is there 2 times"),
    "another namespace": (
        lambda o: get(o, "Service", "mlflow")["metadata"].update(namespace="other"),
        "expected one namespace for all, found ['mssync', 'other']",
    ),
    "a lax namespace": (
        lambda o: get(o, "Namespace", "mssync")["metadata"]["labels"].update(
            {"pod-security.kubernetes.io/enforce": "baseline"}
        ),
        "enforce: restricted, found baseline",
    ),
    "a quota alone": (
        lambda o: o.remove(get(o, "LimitRange", "mssync")),
        "add a LimitRange",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_mistake_is_found(rendered, secrets, planted):
    change, message = PLANTED[planted]
    changed = copy.deepcopy(rendered["overlays/gpu"])
    change(changed)
    found = check(changed, secrets)
    assert any(message in each for each in found), found


def test_a_value_in_a_template_is_found(rendered, secrets):
    filled = copy.deepcopy(secrets)
    get(filled, "Secret", "mlflow-artifacts")["stringData"]["AWS_SECRET_ACCESS_KEY"] = "hunter2"
    [found] = check(rendered["base"], filled)
    assert found.startswith("template Secret/mlflow-artifacts: AWS_SECRET_ACCESS_KEY has no <place")
