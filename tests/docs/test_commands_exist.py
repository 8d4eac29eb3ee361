"""Every command that the documentation tells exists, with the options that it is given."""

import importlib.util
import re

import pytest
import typer

from mssync import cli
from pipeline import __main__ as pipeline
from tests.docs.commands import Command, blocks, spans

APPS = {"mssync": cli.app, "pipeline": pipeline.app}
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|NAME=.*|<.*>")


def trouble(words, root):
    """What is wrong with a command of the project; empty if nothing is."""
    program, *rest = words
    if program == "torchrun" and "-m" in rest:
        return trouble(rest[rest.index("-m") + 1 :], root)
    if program == "python" and rest[:1] == ["-m"]:
        return _of_module(rest[1], rest[2:])
    if program == "mssync":
        return _of_app("mssync", rest)
    if program == "make":
        return _of_make(rest, (root / "Makefile").read_text())
    return ""


def _of_module(module, arguments):
    if module in APPS:
        return _of_app(module, arguments)
    if importlib.util.find_spec(module) is None:
        return f"there is no module {module}"
    return ""


def _of_app(name, words):
    command = typer.main.get_command(APPS[name])
    names = [word for word in words if not word.startswith("-")]
    if hasattr(command, "commands"):
        if not names:
            return ""
        for one in names[0].split("|"):
            if one not in command.commands:
                return f"{name} has no command {one}"
        command = command.commands[names[0].split("|")[0]]
    known = {"--help", *(option for each in command.params for option in each.opts)}
    known |= {option for each in command.params for option in each.secondary_opts}
    for word in words:
        option = word.split("=")[0].rstrip(",")
        if option.startswith("--") and option not in known:
            return f"{name} {command.name} has no option {option}"
    return ""


def _of_make(words, makefile):
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for word in words:
        name, equals, _ = word.partition("=")
        if equals or word.startswith("-"):
            continue
        if name not in targets and not _PLACEHOLDER.fullmatch(name):
            return f"make has no target {name}"
    variables = {word.partition("=")[0] for word in words if "=" in word}
    unknown = {name for name in variables if not re.search(rf"\b{name}\b", makefile)}
    return f"the Makefile does not know {', '.join(sorted(unknown))}" if unknown else ""


def test_every_command_exists_with_its_options(root):
    found = [*blocks(root), *spans(root)]
    assert len(found) > 150
    wrong = [
        f"{command.where}: {told}" for command in found if (told := trouble(command.words, root))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mssync sing", "mssync has no command sing"),
        ("mssync funnel --loud", "mssync funnel has no option --loud"),
        ("python -m pipeline compile --shard 3", "pipeline compile has no option --shard"),
        ("python -m bench.nothing", "there is no module bench.nothing"),
        ("make dmo", "make has no target dmo"),
        ("make demo SOURCE=x", "the Makefile does not know SOURCE"),
        ("torchrun --nproc-per-node 8 -m mssync train", "mssync has no command train"),
    ],
)
def test_a_command_that_does_not_exist_is_found(root, text, told):
    assert trouble(tuple(text.split()), root) == told


def test_a_block_is_read_as_a_shell_reads_it(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "manifests").mkdir()
    for name in ("CONTRIBUTING.md", "manifests/README.md"):
        (tmp_path / name).write_text("")
    (tmp_path / "README.md").write_text(
        "Run `mssync doctor` now.\n\n"
        "    mssync generate --source a.jpg \\\n      --out b.mp4   # fast\n"
        "    A line of text.\n\n```\n$ git init && .venv/bin/mssync funnel\n```\n"
        "    kubectl get pods    # needs a cluster\n"
    )
    assert blocks(tmp_path) == [
        Command("README.md:3", ("mssync", "generate", "--source", "a.jpg", "--out", "b.mp4")),
        Command("README.md:8", ("git", "init")),
        Command("README.md:8", ("mssync", "funnel")),
        Command("README.md:10", ("kubectl", "get", "pods"), cluster=True),
    ]
    assert [command.words for command in spans(tmp_path)] == [("mssync", "doctor")]
