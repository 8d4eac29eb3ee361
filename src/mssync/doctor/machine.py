"""Is what the chain stands on there: Python, packages, torch, ffmpeg, weights, disk?"""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import av
import psutil
import torch
from packaging.requirements import Requirement

from mssync.doctor.finding import Finding, ok, problem, warning
from mssync.errors import InputError
from mssync.landmarks import weights
from mssync.media import ffmpeg, store
from mssync.params import Params

LOCK, TORCH = Path("requirements.lock"), Path("requirements/torch.txt")
_PYTHON = "3.11"
_PIN = re.compile(r"^[A-Za-z0-9][^\\\n#]*==[^\\\n#]*", re.MULTILINE)
_SETUP = "make setup installs what the locks say"
_NAMED = 5
_ENCODERS = ("libx264", "aac", "flac")
_DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "mp3", "opus", "flac")
_LEAST_BYTES = 2_000_000_000  # of memory, and of a folder for temporary files
_GPU_DRIVER = Path("/proc/driver/nvidia/version")


def python() -> Iterator[Finding]:
    """The interpreter."""
    found = platform.python_version()
    if found.startswith(f"{_PYTHON}."):
        yield ok("python", found)
    else:
        yield problem(
            "python", f"{found}, expected {_PYTHON}", f"PYTHON=python{_PYTHON} make setup"
        )


def packages(project: Path) -> Iterator[Finding]:
    """Installed packages against the lock.

    Args:
        project: Folder of the locks.
    """
    files = [project / LOCK, project / TORCH]
    if not files[0].exists():
        yield warning(
            "packages",
            f"there is no {LOCK} here, versions are not compared",
            "run mssync doctor in the project's folder",
        )
        return
    pins = [
        Requirement(pin.strip())
        for file in files
        if file.exists()
        for pin in _PIN.findall(file.read_text())
    ]
    wanted = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    wrong = [told for pin in wanted if (told := _difference(pin))]
    if not wrong:
        yield ok("packages", f"{len(wanted)} as {LOCK} has them")
        return
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    yield problem("packages", f"{'; '.join(wrong[:_NAMED])}{more}", _SETUP)


def _difference(pin: Requirement) -> str:
    try:
        found = metadata.version(pin.name)
    except metadata.PackageNotFoundError:
        return f"{pin.name} is missing"
    # a build of torch has a local part, which no pin names
    if pin.specifier.contains(found.split("+")[0], prereleases=True):
        return ""
    return f"{pin.name} is {found}, locked {pin.specifier}"


def torch_here(params: Params | None) -> Iterator[Finding]:
    """torch, its threads and its device.

    Args:
        params: What is asked for, where that is known.
    """
    cores = os.cpu_count() or 1
    asked = params.run.threads if params else 0
    threads = f"torch {torch.__version__}, {torch.get_num_threads()} threads on {cores} cores"
    if asked > cores:
        yield warning(
            "torch",
            f"{threads}, run.threads is {asked}",
            "lower run.threads: more threads than cores are slower",
        )
    else:
        yield ok("torch", f"{threads}, run.threads is {asked}" if params else threads)
    yield _device(params.run.device if params else "auto")


def _device(asked: str) -> Finding:
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        memory_gb = torch.cuda.get_device_properties(0).total_memory / 1e9
        bfloat16 = "with" if torch.cuda.is_bf16_supported() else "without"
        found = f"CUDA {torch.version.cuda}: {name}, {memory_gb:.0f} GB, {bfloat16} bfloat16"
        return ok("device", found)
    if asked == "cuda":
        return problem(
            "device",
            "run.device is cuda, but torch finds no CUDA device",
            "set run.device to auto or cpu, or install torch for CUDA: TORCH_BACKEND=cu130 "
            "make setup",
        )
    if _GPU_DRIVER.exists():
        return warning(
            "device",
            f"there is an NVIDIA driver, but this torch ({torch.__version__}) finds no CUDA device",
            "install torch for CUDA: TORCH_BACKEND=cu130 make setup",
        )
    return ok("device", "CPU alone")


def ffmpeg_here() -> Iterator[Finding]:
    """The ffmpeg that writes videos, and the libraries that read them."""
    program = ffmpeg.executable()
    first = _told(program, "-version").splitlines()[0]
    listed = _told(program, "-hide_banner", "-encoders").split()
    missing = [name for name in _ENCODERS if name not in listed]
    found = f"{first.split(' Copyright')[0]}, {program}"
    if missing:
        yield problem(
            "ffmpeg",
            f"{found}, without {', '.join(missing)}",
            "take this one off PATH (the package imageio-ffmpeg has a whole one), or install one "
            "with these encoders",
        )
    else:
        yield ok("ffmpeg", f"{found}, with {', '.join(_ENCODERS)}; ffprobe is not used")
    lost = [name for name in _DECODERS if name not in av.codecs_available]
    if lost:
        yield warning("codecs", f"PyAV {av.__version__} cannot read {', '.join(lost)}", f"{_SETUP}")
    else:
        yield ok("codecs", f"PyAV {av.__version__} reads {', '.join(_DECODERS)}")


def _told(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode:
        raise InputError(f"{program} does not run: {done.stderr.strip() or done.returncode}")
    return done.stdout


def weights_here(params: Params | None) -> Iterator[Finding]:
    """The weights of the backend face_alignment, which others do without."""
    folder = weights.default_folder()
    states = {each.name: weights.state(each, folder) for each in weights.required()}
    wrong = [f"{name} is {state}" for name, state in states.items() if state != "fits"]
    if not wrong:
        yield ok("weights", f"those of face_alignment are in {folder}")
        return
    needed = params is not None and params.extract_landmarks.backend == "face_alignment"
    tell = problem if needed else warning
    use = "" if needed else "only extract_landmarks.backend: face_alignment needs them; "
    yield tell("weights", f"{', '.join(wrong)} in {folder}", f"{use}mssync weights --fetch")


def space(params: Params | None) -> Iterator[Finding]:
    """Memory, and room where the chain writes."""
    memory = psutil.virtual_memory().total
    if memory < _LEAST_BYTES:
        yield warning(
            "memory", f"{memory / 1e9:.1f} GB", "4 GB or more are good; lower run.workers"
        )
    else:
        yield ok("memory", f"{memory / 1e9:.1f} GB")
    kept_free = params.download_videos.min_free_bytes if params else 0
    needs: Mapping[str, tuple[Path, int]] = {
        "disk, here": (Path.cwd(), kept_free),
        "disk, media store": (store.default_folder(), kept_free),
        "disk, temporary files": (Path(tempfile.gettempdir()), 0),
    }
    for name, (folder, least) in needs.items():
        free = shutil.disk_usage(existing(folder)).free
        found = f"{free / 1e9:.1f} GB free in {folder}"
        if free < least:
            yield problem(
                name,
                f"{found}, download_videos.min_free_bytes keeps {least / 1e9:.1f} GB free",
                "make room, or move it: MSSYNC_MEDIA names the store",
            )
        elif free < _LEAST_BYTES:
            yield warning(name, found, "make room: a run of the demo takes about 1 GB")
        else:
            yield ok(name, found)


def existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
