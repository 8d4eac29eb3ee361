"""The compiled graph: what a cluster is handed."""

import ast
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from mssync.errors import InputError, ParamsError
from mssync.launch.order import Spread
from mssync.params import load, stage_names, validate
from pipeline import compiling, graph, resources

DIGEST = "sha256:" + "0" * 64
SHARED = {"run", "paths"}
ENGINE_ONLY = {"shard", "gather", "publish", "notify"}


def table(file):
    return resources.load(file)


def compiled(root, folder, *, shards, params="params.yaml", changes=None, asked=None):
    """Both documents of a compiled graph, and their size in bytes."""
    loaded = load(root / params)
    if changes:
        loaded = loaded.model_copy(update={"run": loaded.run.model_copy(update=changes)})
    environment = {"MSSYNC_IMAGE_DIGEST": DIGEST} | resources.caches(resources.WORKSPACE)
    rows = table(asked or resources.PROJECTS)
    target = graph.Target(f"registry.example/mssync@{DIGEST}", environment, rows)
    file = folder / "pipeline.yaml"
    # KFP looks through the whole stack at every step, and pytest's is deep; a thread's is empty
    with ThreadPoolExecutor(1) as thread:
        pipeline = thread.submit(graph.build, loaded, target, shards=shards).result()
        thread.submit(compiling.write, pipeline, file).result()
    spec, platform = yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"], file


@pytest.fixture(scope="module")
def small(root, tmp_path_factory):
    return compiled(root, tmp_path_factory.mktemp("graph"), shards=3)


def chain_of(spec):
    """Tasks within the exit handler: the first, and those that run if there is work to do."""
    first = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    work = spec["components"]["comp-condition-2"]["dag"]["tasks"]
    return {"shard": first["shard"], **work}


def executor_of(spec, task):
    component = spec["components"][task["componentRef"]["name"]]
    return spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]


def test_sixty_four_shards_fit_the_engine(root, tmp_path):
    spec, _, file = compiled(root, tmp_path, shards=64, params="params.cluster.yaml")
    assert file.stat().st_size < 400_000
    assert len(chain_of(spec)) == 3 * 64 + 8


@pytest.mark.parametrize("shards", [0, 65])
def test_too_few_and_too_many_shards_are_refused(root, shards):
    with pytest.raises(InputError, match=f"1 to 64 shards, found {shards}"):
        graph.build(load(root / "params.yaml"), graph.Target("x"), shards=shards)


def test_the_file_is_what_kubeflow_reads(small):
    spec, _, _ = small
    read = json_format.ParseDict(spec, PipelineSpec())
    assert json_format.MessageToDict(read) == spec


def test_the_same_graph_gives_the_same_file_in_every_process(root, tmp_path):
    files = []
    for seed in ("1", "2"):
        file = tmp_path / f"{seed}.yaml"
        command = [sys.executable, "-m", "pipeline", "compile", "--shards", "2"]
        subprocess.run(
            [*command, "--output", str(file), "--params", "params.yaml"],
            cwd=root,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        files.append(file.read_bytes())
    assert files[0] == files[1]


def test_every_component_is_written_once_and_every_task_finds_its_own(small):
    spec, pods, _ = small
    executors = spec["deploymentSpec"]["executors"]
    assert set(executors) == set(pods)
    assert len(executors) == len(stage_names()) + len(ENGINE_ONLY)
    for name, task in [*chain_of(spec).items(), ("notify", spec["root"]["dag"]["tasks"]["notify"])]:
        source = executor_of(spec, task)["command"][-1]
        step = re.sub(r"-\d+$", "", name).replace("-", "_")
        assert f"\ndef {step}(" in source


def test_every_step_is_within_the_exit_handler(small):
    spec, _, _ = small
    assert set(spec["root"]["dag"]["tasks"]) == {"exit-handler-1", "notify"}
    notify = spec["root"]["dag"]["tasks"]["notify"]
    assert notify["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    names = {re.sub(r"-\d+$", "", name).replace("-", "_") for name in chain_of(spec)}
    assert names == set(stage_names()) | ENGINE_ONLY - {"notify"}


def test_there_is_work_where_the_first_step_says_so(small):
    spec, _, _ = small
    inner = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert set(inner) == {"shard", "condition-2"}
    policy = inner["condition-2"]["triggerPolicy"]["condition"]
    assert policy == "inputs.parameter_values['pipelinechannel--shard-Output'] == 'work'"


def test_training_begins_when_the_data_are_published(small):
    spec, _, _ = small
    assert "publish" in chain_of(spec)["train-syncers"]["dependentTasks"]


def test_a_steps_parameters_come_from_its_own_section_and_the_shared_ones(small):
    spec, _, _ = small
    for name, task in chain_of(spec).items():
        stage = re.sub(r"-\d+$", "", name).replace("-", "_")
        given = {
            key: value["componentInputParameter"].removeprefix("pipelinechannel--")
            for key, value in task["inputs"]["parameters"].items()
            if "componentInputParameter" in value
        }
        sections = {value for value in given.values() if value in {*stage_names(), *SHARED}}
        if stage in ENGINE_ONLY:
            assert all(given[key] in (key, "dvc_remote") for key in given)
        else:
            assert given["params"] == stage
            assert sections <= {stage, *SHARED}
            assert all(given[shared] == shared for shared in SHARED & set(given))


def test_the_inputs_defaults_are_the_parameter_file(small, root):
    spec, _, _ = small
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    params = load(root / "params.yaml")
    for name, section in params:
        assert validate(type(section), inputs[name]["defaultValue"], name=name) == section


def test_descriptions_reach_the_file(small):
    spec, _, _ = small
    assert spec["pipelineInfo"]["description"]
    for component in [spec["root"], *spec["components"].values()]:
        if "executorLabel" in component or component is spec["root"]:
            inputs = component["inputDefinitions"]
            for definition in [
                *inputs.get("parameters", {}).values(),
                *inputs.get("artifacts", {}).values(),
            ]:
                final_status = definition.get("parameterType") == "TASK_FINAL_STATUS"
                assert definition.get("description") or final_status


def test_nothing_is_installed_when_a_step_starts(small):
    _, _, file = small
    assert "pip install" not in file.read_text()
    assert "ensurepip" not in file.read_text()


def test_a_step_sets_its_logging_up_before_anything_else(root):
    files = [*(root / "components").glob("[!_]*.py"), *(root / "pipeline/steps").glob("[!_]*.py")]
    assert len(files) == len(stage_names()) + len(ENGINE_ONLY)
    for file in files:
        (function,) = [
            node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)
        ]
        _, imported, first, *_ = function.body
        assert isinstance(imported, ast.ImportFrom)
        assert ast.unparse(first) == "log.set_up()"


def test_every_pod_runs_the_pinned_image_on_the_shared_workspace_as_nobody_special(small):
    spec, pods, _ = small
    for label, executor in spec["deploymentSpec"]["executors"].items():
        container, pod = executor["container"], pods[label]
        assert container["image"] == f"registry.example/mssync@{DIGEST}"
        env = {item["name"]: item["value"] for item in container["env"]}
        assert env["MSSYNC_IMAGE_DIGEST"] == DIGEST
        assert env.items() >= resources.THROUGH_MLFLOW.items()
        assert env["TORCH_HOME"].startswith(f"{resources.WORKSPACE}/")
        assert container["resources"]["memoryLimit"] == container["resources"]["memoryRequest"]
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": "10001"}
        assert [(m["mountPath"], m["constant"]) for m in pod["pvcMount"]] == [
            (resources.WORKSPACE, resources.CLAIM)
        ]
        assert ("/tmp", "tmp") in [(m["mountPath"], m["volumeName"]) for m in pod["emptyDirMounts"]]
        assert int(pod["activeDeadlineSeconds"]) > 0
        name = label.removeprefix("exec-").replace("-", "_")
        assert pod["podMetadata"]["labels"] == resources.labels(
            name, table(resources.PROJECTS).steps[name]
        )
        assert pod["fieldPathAsEnv"][0]["name"] == "KFP_RUN_ID"


def test_every_step_but_the_last_is_tried_again(small):
    spec, _, _ = small
    assert all(task["retryPolicy"]["maxRetryCount"] == 2 for task in chain_of(spec).values())
    assert "retryPolicy" not in spec["root"]["dag"]["tasks"]["notify"]


def test_no_step_is_taken_from_the_engines_cache(small):
    spec, _, _ = small
    tasks = [*chain_of(spec).values(), spec["root"]["dag"]["tasks"]["notify"]]
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks)


def steps_with_gpu(spec):
    return {
        name.removeprefix("exec-").replace("-", "_")
        for name, executor in spec["deploymentSpec"]["executors"].items()
        if "accelerator" in executor["container"]["resources"]
    }


def test_gpus_go_to_the_steps_that_use_torch_and_only_where_cuda_is_asked_for(root, tmp_path):
    on_cpu, _, _ = compiled(root, tmp_path, shards=2)
    assert steps_with_gpu(on_cpu) == set()
    on_gpu, _, _ = compiled(root, tmp_path, shards=2, changes={"device": "cuda"})
    assert steps_with_gpu(on_gpu) == {"train_syncers", "train_generator", "evaluate"}
    paper, _, _ = compiled(root, tmp_path, shards=2, params="params.cluster.yaml")
    assert steps_with_gpu(paper) == {
        "extract_landmarks",
        "train_syncers",
        "train_generator",
        "evaluate",
    }
    (container,) = [
        executor["container"]
        for name, executor in paper["deploymentSpec"]["executors"].items()
        if name == "exec-train-generator"
    ]
    assert container["resources"]["accelerator"]["count"] == "1"


def test_secrets_are_variables_of_the_steps_that_use_them_and_of_no_other(small):
    _, pods, _ = small
    found = {
        label.removeprefix("exec-").replace("-", "_"): {
            secret["secretName"]: [key["envVar"] for key in secret["keyToEnv"]]
            for secret in pod.get("secretAsEnv", [])
        }
        for label, pod in pods.items()
    }
    keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"]
    assert {name: secrets for name, secrets in found.items() if secrets} == {
        "shard": {"mssync-sources": keys},
        "download_videos": {"mssync-sources": keys},
        "publish": {"mssync-dvc-remote": keys},
        "notify": {"mssync-webhook": ["MSSYNC_WEBHOOK_URL"]},
    }
    assert all(secret["optional"] for pod in pods.values() for secret in pod.get("secretAsEnv", []))


def with_rows(root, folder, change):
    """The project's table of resources with something changed, as a file."""
    content = yaml.safe_load((root / "pipeline" / "resources.yaml").read_text())
    change(content)
    file = folder / "resources.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_another_table_reaches_the_pods(root, tmp_path):
    def change(content):
        content["pools"]["gpu"]["accelerator"] = "example.com/gpu"
        content["pools"]["gpu"]["node_selector"] = {"gpu-memory": "80"}
        content["steps"]["train_generator"] |= {"gpus": 4, "memory": "96Gi", "timeout_s": 60}
        content["steps"]["download_videos"] |= {"temporary": "7Gi", "retries": 5}

    rows = with_rows(root, tmp_path, change)
    spec, pods, _ = compiled(root, tmp_path, shards=2, changes={"device": "cuda"}, asked=rows)
    asked = spec["deploymentSpec"]["executors"]["exec-train-generator"]["container"]["resources"]
    assert asked["accelerator"] == {
        "count": "4",
        "type": "example.com/gpu",
        "resourceCount": "4",
        "resourceType": "example.com/gpu",
    }
    assert asked["resourceMemoryLimit"] == "96Gi"
    pod = pods["exec-train-generator"]
    assert pod["activeDeadlineSeconds"] == "60"
    assert pod["nodeSelector"] == {"labels": {"gpu-memory": "80"}}
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "nodeSelector" not in pods["exec-promote"]
    (tmp,) = [m for m in pods["exec-download-videos"]["emptyDirMounts"] if m["mountPath"] == "/tmp"]
    assert tmp["sizeLimit"] == "7Gi"
    assert chain_of(spec)["download-videos"]["retryPolicy"]["maxRetryCount"] == 5


def launch_of(spec, task):
    """How a training step is spread, as its component reads it."""
    given = chain_of(spec)[task]["inputs"]["parameters"]["launch"]["runtimeValue"]["constant"]
    return validate(Spread, given, name="launch")


def test_training_on_several_nodes_leaves_its_step_only_to_wait(root, tmp_path, small):
    def change(content):
        content["steps"]["train_syncers"] |= {"gpus": 4}
        content["steps"]["train_generator"] |= {"gpus": 8, "nodes": 2, "memory": "96Gi"}

    rows = with_rows(root, tmp_path, change)
    spec, pods, _ = compiled(root, tmp_path, shards=2, changes={"device": "cuda"}, asked=rows)
    assert steps_with_gpu(spec) == {"train_syncers", "evaluate"}
    waits = spec["deploymentSpec"]["executors"]["exec-train-generator"]["container"]["resources"]
    assert waits["resourceMemoryLimit"] == "2Gi"
    mounted = [each["mountPath"] for each in pods["exec-train-generator"]["emptyDirMounts"]]
    assert mounted == ["/tmp"]
    assert "tolerations" not in pods["exec-train-generator"]
    spread = launch_of(spec, "train-generator")
    assert (spread.nodes, spread.processes) == (2, 8)
    assert (spread.job.accelerator, spread.job.gpus) == ("nvidia.com/gpu", 8)
    assert (spread.job.memory, spread.job.shared_memory) == ("96Gi", "8Gi")
    assert spread.job.image == f"registry.example/mssync@{DIGEST}"
    operator = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert spread.job.tolerations == [operator]
    assert launch_of(spec, "train-syncers") == Spread(nodes=1, processes=4)
    assert launch_of(small[0], "train-generator") == Spread(nodes=1, processes=1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["steps"].pop("publish"), "missing or unknown: publish"),
        (lambda c: c["steps"].update(bake=c["steps"]["shard"]), "missing or unknown: bake"),
        (lambda c: c["steps"]["shard"].update(memory="1 GB"), "steps.shard.memory: String should"),
        (lambda c: c["steps"]["shard"].update(gpu=1), "steps.shard.gpu: Extra inputs"),
        (lambda c: c["steps"]["shard"].update(pool="big"), "shard names the pool 'big'"),
        (lambda c: c["pools"]["gpu"].update(accelerator=""), "whose accelerator is empty"),
        (lambda c: c["steps"]["evaluate"].update(nodes=2), "evaluate runs in one process"),
        (lambda c: c["steps"]["train_syncers"].update(processes=0), "train_syncers.processes"),
    ],
)
def test_a_table_that_is_wrong_is_told_by_its_field(root, tmp_path, change, told):
    with pytest.raises(ParamsError, match=re.escape(told)):
        table(with_rows(root, tmp_path, change))


def test_a_table_that_is_not_there_is_told_with_its_option(tmp_path):
    with pytest.raises(ParamsError, match="--resources FILE"):
        table(tmp_path / "none.yaml")
