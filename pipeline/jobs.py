"""What a cluster is asked to run: a compiled graph, uploaded once, and its inputs."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from mssync.errors import InputError
from mssync.params import Params, load
from pipeline import compiling, graph, resources
from pipeline.client import Server, equals

logger = logging.getLogger(__name__)

CLUSTER_PARAMS = Path("params.cluster.yaml")
_DIGITS = 16
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Order(BaseModel):
    """What is to run, as a person says it.

    Attributes:
        sources: The list: a path in the workspace, or a URL.
        source_base: Folder or URL that relative sources start from; empty: where the list is.
        workspace: Folder that all steps share.
        params: Parameter file; None: `params.cluster.yaml`, or the defaults of the package.
        package: A compiled graph; None: it is compiled.
        shards: Parts that the list is cut into, where it is compiled.
        image: Image of every step, where it is compiled.
        resources: What every step asks of the cluster, where it is compiled.
        apply_promotion: Write a promotion into the model registry.
        dvc_remote: Where the version of the data is pushed; empty: nowhere.
        repeat: Work also if nothing changed since the last finished run.
        experiment: Kubeflow's experiment; made where it is missing.
        service_account: Kubernetes' account of the steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: str
    source_base: str = ""
    workspace: str = resources.WORKSPACE
    params: Path | None = None
    package: Path | None = None
    shards: int = 8
    image: str = "mssync:dev"
    resources: Path = resources.PROJECTS
    apply_promotion: bool = False
    dvc_remote: str = ""
    repeat: bool = False
    experiment: str = "mssync"
    service_account: str = "mssync-steps"

    def job(self, folder: Path) -> "Job":
        """Compile or read the graph, and fill in its inputs.

        Args:
            folder: Where it may be compiled to.

        Raises:
            InputError: If the package cannot be read, or does not take these inputs.
            ParamsError: If the parameter file does not fit.
        """
        if not self.sources:
            raise InputError("expected a list of sources, found an empty name (--sources)")
        params = None
        if self.params or not self.package:
            params = load(self.params or CLUSTER_PARAMS)
        if self.package:
            package = read(self.package)
        else:
            assert params is not None
            compiled = folder / "pipeline.yaml"
            compile_for_cluster(
                params,
                compiled,
                image=self.image,
                shards=self.shards,
                resources_file=self.resources,
            )
            package = read(compiled)
        arguments: dict[str, Any] = params.model_dump(mode="json") if params else {}
        arguments |= {
            "sources": self.sources,
            "source_base": self.source_base,
            "workspace": self.workspace,
            "apply_promotion": self.apply_promotion,
        }
        # what a package of before does not take, and nobody asked for, is not sent
        newer = {"dvc_remote": self.dvc_remote, "repeat": self.repeat}
        arguments |= {
            name: value for name, value in newer.items() if value or name in package.inputs
        }
        package.check(arguments)
        return Job(package, arguments, self.experiment, self.service_account)


@dataclass(frozen=True)
class Package:
    """A compiled graph.

    Attributes:
        path: Its file.
        name: Of the pipeline.
        digest: SHA-256 of its content, whatever the file's comments and order.
        inputs: Definition of every input, by name.
    """

    path: Path
    name: str
    digest: str
    inputs: Mapping[str, Mapping[str, Any]]

    @property
    def version(self) -> str:
        """Name of the version that has this content."""
        return f"sha256-{self.digest[:_DIGITS]}"

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Refuse arguments that it does not take, or that are missing.

        Raises:
            InputError: Naming them.
        """
        unknown = sorted(arguments.keys() - self.inputs.keys())
        needed = {
            name
            for name, each in self.inputs.items()
            if "defaultValue" not in each and not each.get("isOptional")
        }
        missing = sorted(needed - arguments.keys())
        if unknown or missing:
            raise InputError(
                f"{self.path} takes {', '.join(self.inputs) or 'no inputs'}; found "
                + " and ".join(
                    [f"{name}, which it does not take" for name in unknown]
                    + [f"no {name}" for name in missing]
                )
                + ": compile it with this version of the project (python -m pipeline compile)"
            )


@dataclass(frozen=True)
class Job:
    """What is to run, as Kubeflow takes it.

    Attributes:
        package: The graph.
        arguments: Its inputs.
        experiment: Name of the experiment.
        service_account: Kubernetes' account of the steps.
    """

    package: Package
    arguments: Mapping[str, Any] = field(default_factory=dict)
    experiment: str = "mssync"
    service_account: str = "mssync-steps"


@dataclass(frozen=True)
class Uploaded:
    """A version of a pipeline on the server."""

    pipeline_id: str
    version_id: str


def compile_for_cluster(
    params: Params,
    output: Path,
    *,
    image: str,
    shards: int,
    resources_file: Path = resources.PROJECTS,
    kubernetes: bool = False,
) -> None:
    """Write the graph as a file that Kubeflow Pipelines takes.

    Args:
        params: Its values are the inputs' defaults.
        output: File to write.
        image: Image of every step.
        shards: Parts that the list is cut into.
        resources_file: What every step asks of the cluster.
        kubernetes: Write Kubernetes objects instead, for GitOps.

    Raises:
        ParamsError: If the table of resources does not fit.
        InputError: If the image or the number of shards cannot be, or the file not be written.
    """
    name, _, digest = image.partition("@")
    if not digest:
        logger.warning(
            "%s is not pinned by a digest (NAME@sha256:...): runs will not say which image made "
            "them",
            name,
        )
    environment = resources.caches(resources.WORKSPACE)
    environment |= {"MSSYNC_IMAGE_DIGEST": digest} if digest else {}
    target = graph.Target(image, environment, resources.load(resources_file))
    write = compiling.write_objects if kubernetes else compiling.write
    write(graph.build(params, target, shards=shards), output)


def read(path: Path) -> Package:
    """Read a compiled graph.

    Raises:
        InputError: If it is none.
    """
    try:
        documents = list(yaml.load_all(path.read_text(), Loader=_Loader))
        name = documents[0]["pipelineInfo"]["name"]
        inputs = documents[0]["root"].get("inputDefinitions", {}).get("parameters", {})
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): name a compiled graph (--package), or "
            "leave it out to have one compiled"
        ) from error
    except (ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no compiled graph: expected the YAML that `python -m pipeline compile` "
            f"writes, with pipelineInfo and root; found something else ({error!r:.200})"
        ) from error
    content = json.dumps(documents, sort_keys=True).encode()
    return Package(path, name, hashlib.sha256(content).hexdigest(), inputs)


def find_pipeline(server: Server, name: str) -> str:
    """Id of a pipeline; empty: there is none of that name."""
    found = server.pages(
        server.client.pipelines.pipeline_service_list_pipelines,
        "pipelines",
        what=f"pipeline {name}",
        filter=equals(display_name=name),
        namespace=server.namespace,
    )
    return next((each.pipeline_id for each in found), "")


def upload(server: Server, package: Package) -> Uploaded:
    """The version of the pipeline with this content; uploaded where the server has none yet.

    A version is named by the digest of its content.
    """
    pipelines = server.client.pipelines
    pipeline_id = find_pipeline(server, package.name)
    if not pipeline_id:
        body = server.client.api_models.V2beta1Pipeline(
            name=package.name, display_name=package.name, namespace=server.namespace or None
        )
        pipeline_id = server.ask(
            pipelines.pipeline_service_create_pipeline,
            what=f"pipeline {package.name}",
            pipeline=body,
        ).pipeline_id
    versions = server.pages(
        pipelines.pipeline_service_list_pipeline_versions,
        "pipeline_versions",
        what=f"pipeline {pipeline_id}",
        pipeline_id=pipeline_id,
        filter=equals(display_name=package.version),
    )
    version = next(versions, None) or server.ask(
        server.client.pipeline_uploads.upload_pipeline_version,
        what=f"{package.path}",
        uploadfile=str(package.path),
        name=package.version,
        pipelineid=pipeline_id,
        description=f"sha256:{package.digest}",
    )
    return Uploaded(pipeline_id, version.pipeline_version_id)


def find_experiment(server: Server, name: str) -> str:
    """Id of an experiment; empty: there is none of that name."""
    found = server.pages(
        server.client.experiments.experiment_service_list_experiments,
        "experiments",
        what=f"experiment {name}",
        filter=equals(display_name=name),
        namespace=server.namespace,
    )
    return next((each.experiment_id for each in found), "")


def experiment_of(server: Server, name: str) -> str:
    """Id of an experiment; made where there is none of that name."""
    found = find_experiment(server, name)
    if found:
        return found
    body = server.client.api_models.V2beta1Experiment(
        display_name=name, namespace=server.namespace or None
    )
    made = server.ask(
        server.client.experiments.experiment_service_create_experiment,
        what=f"experiment {name}",
        experiment=body,
    )
    return str(made.experiment_id)
