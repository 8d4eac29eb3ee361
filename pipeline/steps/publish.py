"""After the dataset: keep this version of it where others can take it from."""

from kfp import dsl

from components._base import step


@step
def publish(
    workspace: str,
    dataset: dsl.Input[dsl.Dataset],
    remote: str,
    version: dsl.Output[dsl.Artifact],
) -> str:
    """Add the data to DVC, without git, and push them to a remote if one is named.

    Args:
        workspace: Folder that all steps share.
        dataset: Reference to the dataset folder.
        remote: URL of a DVC remote; empty: only the workspace keeps the version.
        version: The `.dvc` file, which brings this version back wherever the remote is.

    Returns:
        DVC's digest of the data.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("publish", workspace):
        import shutil
        from pathlib import Path

        from mssync import versions
        from mssync.data.dataset import load_metadata

        revision = load_metadata(steps.referred(dataset))["revision"]
        md5 = versions.publish(Path(), remote=remote)
        shutil.copyfile(versions.PUBLISHED, version.path)
        version.metadata.update({"md5": md5, "revision": revision, "remote": remote})
    return md5
