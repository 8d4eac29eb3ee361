"""Our own renderer makes what kubectl makes, and refuses what it does not know."""

import os
import shutil
import subprocess
import sys

import pytest
import yaml

from manifests.check import main
from manifests.render import render, split_image
from mssync.errors import InputError
from tests.manifests.conftest import FOLDERS

BASE = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"


def by_kubectl(folder):
    """What `kubectl apply -k` would send."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl on PATH to render with")
    result = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # deprecated fields
    return list(yaml.safe_load_all(result.stdout))


def by_name(objects):
    found = {(item["kind"], item["metadata"]["name"]): item for item in objects}
    assert len(found) == len(objects)
    return found


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("folder", FOLDERS)
def test_both_renderers_agree(manifests, rendered, folder):
    assert by_name(rendered[folder]) == by_name(by_kubectl(manifests / folder))


def overlay(tmp_path, manifests, text):
    relative = os.path.relpath(manifests / "base", tmp_path)
    return write(tmp_path, kustomization=f"{BASE}resources: [{relative}]\n{text}")


@pytest.mark.parametrize(
    "text",
    [
        "images: [{name: mssync, newName: registry.example.org:5000/a/mssync, newTag: v1}]",
        f"images: [{{name: mssync, newName: r.example.org/mssync, digest: sha256:{'0' * 64}}}]",
        "namespace: elsewhere",
        "patches:\n- patch: |-\n    $patch: delete\n    apiVersion: networking.k8s.io/v1\n"
        "    kind: NetworkPolicy\n    metadata: {name: runs}",
        "patches:\n- target: {kind: PersistentVolumeClaim}\n  patch: |-\n"
        "    - {op: add, path: /spec/storageClassName, value: a-shared-class}",
        "patches:\n- target: {kind: Deployment, name: mlflow}\n  patch: |-\n"
        "    - {op: add, path: /spec/template/spec/containers/0/args/-, value: --help}\n"
        "    - {op: remove, path: /spec/template/spec/containers/0/startupProbe}\n"
        "    - op: replace\n      path: /spec/template/metadata/labels/app.kubernetes.io~1name\n"
        "      value: x",
        "patches:\n- patch: |-\n    apiVersion: v1\n    kind: ResourceQuota\n"
        "    metadata: {name: mssync}\n    spec: {hard: {pods: null, requests.cpu: '1'}}",
    ],
)
def test_both_renderers_agree_on_an_overlay_of_ones_own(tmp_path, manifests, text):
    folder = overlay(tmp_path, manifests, text)
    assert by_name(render(folder)) == by_name(by_kubectl(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("configMapGenerator: []", "configMapGenerator is not known here"),
        ("resources: [missing.yaml]", r"missing\.yaml cannot be read"),
        ("resources: [broken.yaml]", r"broken\.yaml is not YAML"),
        ("resources: [listed.yaml]", "expected mappings, found list"),
        ("patches: [{target: {kind: Pod}, patch: '[]'}]", "no object for the patch"),
        ("resources: [nameless.yaml]", r"nameless\.yaml: expected objects with apiVersion, kind"),
        (
            "resources: [pod.yaml]\npatches: [{target: {kind: Pod}, patch: "
            "'[{op: add, path: /spec/containers/0/x, value: y}]'}]",
            "Pod a has no place for the patch",
        ),
        ("patches: [{target: {kind: Pod}, patch: 'a: ['}]", "a patch is not YAML"),
        ("---\na: b", "expected one document, found 2"),
        ("labels: [{pairs: {a: b}, includeSelectors: true}]", "labels have pairs"),
    ],
)
def test_what_it_does_not_know_is_refused(tmp_path, text, message):
    write(
        tmp_path,
        kustomization=BASE + text,
        broken="a: [",
        listed="- a",
        nameless="kind: Pod",
        pod="apiVersion: v1\nkind: Pod\nmetadata: {name: a}",
    )
    with pytest.raises(InputError, match=message):
        render(tmp_path)


def test_every_file_of_a_folder_is_used(manifests):
    for folder in (*FOLDERS, "components/trainer"):
        said = yaml.safe_load((manifests / folder / "kustomization.yaml").read_text())
        used = {*said["resources"], *(each.get("path") for each in said.get("patches", []))}
        files = {path.name for path in (manifests / folder).glob("*.y*ml")}
        assert files - {"kustomization.yaml"} == {each for each in used if each and "/" not in each}


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("mssync", ("mssync", "")),
        ("mssync:dev", ("mssync", ":dev")),
        ("r.example:5000/mssync", ("r.example:5000/mssync", "")),
        ("r.example:5000/mssync:1", ("r.example:5000/mssync", ":1")),
        ("mssync@sha256:0", ("mssync", "@sha256:0")),
    ],
)
def test_an_image_is_a_name_and_a_tag_or_a_digest(image, parts):
    assert split_image(image) == parts


def test_the_command_says_what_it_found(manifests, capsys, tmp_path):
    main(str(manifests / "base"))
    assert "nothing found" in capsys.readouterr().out
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}}
    pod["spec"] = {"containers": [{"name": "c", "image": "mssync"}]}
    result = subprocess.run(
        [sys.executable, "-m", "manifests.check", "-"],
        input=yaml.safe_dump(pod),
        capture_output=True,
        text=True,
        check=False,
    )
    del pod["spec"]["containers"][0]["name"]
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    write(tmp_path, kustomization=BASE + "resources: [pod.yaml]")
    with pytest.raises(InputError, match="an object lacks what its kind must have"):
        main(str(tmp_path))
    assert result.returncode == 1
    assert "Pod/a: container c: expected an image with a tag" in result.stderr
    assert "Traceback" not in result.stderr
