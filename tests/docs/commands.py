"""Commands that the documentation tells, as words of a shell."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = {
    *("make", "mssync", "python", "dvc", "mlflow", "torchrun"),
    *("kubectl", "docker", "git", "export"),
}
_PROMPT = re.compile(r"^\$ ")
_SPAN = re.compile(r"`([^`\n]+)`")
_CLUSTER = "# needs a cluster"


@dataclass(frozen=True)
class Command:
    """A command of a document.

    Attributes:
        where: `file:line`, relative to the project.
        words: As a shell splits them, without comments; the program without its folder.
        cluster: Whether it is marked as one for a cluster.
    """

    where: str
    words: tuple[str, ...]
    cluster: bool = False

    @property
    def text(self) -> str:
        """One line, as tables name it."""
        return shlex.join(self.words)


def documents(root: Path) -> list[Path]:
    """Everything that a user reads, in order."""
    docs = sorted((root / "docs").glob("*.md"))
    return [root / "README.md", root / "CONTRIBUTING.md", *docs, root / "manifests/README.md"]


def blocks(root: Path) -> list[Command]:
    """Commands in blocks of code: lines that begin with a program, continued lines joined."""
    found = []
    for path in documents(root):
        fenced, text, number = False, "", 0
        for line_number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("```"):
                fenced = not fenced
                continue
            if not (fenced or line.startswith("    ") or text):
                continue
            number = number or line_number
            text += _PROMPT.sub("", line.strip())
            if text.endswith("\\"):
                text = text.removesuffix("\\")
                continue
            where = f"{path.relative_to(root)}:{number}"
            found += [
                command for part in text.split("&&") if (command := _command(where, part.strip()))
            ]
            text, number = "", 0
    return found


def spans(root: Path) -> list[Command]:
    """Commands of the project within sentences, as far as they are written out."""
    return [
        command
        for path in documents(root)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for span in _SPAN.findall(line)
        if span.startswith(("mssync ", "make ", "python -m "))
        and (command := _command(f"{path.relative_to(root)}:{number}", span))
    ]


def _command(where: str, text: str) -> Command | None:
    try:
        words = shlex.split(text, comments=True)
    except ValueError:  # a quotation that goes on: no command
        return None
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    words = [word for word in words if word not in ("&", "...")]
    if not words or Path(words[0]).name not in PROGRAMS:
        return None
    return Command(where, (Path(words[0]).name, *words[1:]), _CLUSTER in text)
