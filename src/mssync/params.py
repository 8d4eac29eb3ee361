"""Schema of `params.yaml`: types, bounds, units. No default values: DVC sees only the file.

One section per stage, of the stage's name; `run` and `paths` are shared.
Lengths end in their unit: `_s`, `_hz`, `_frames`, `_px`; ratios lie in [0, 1].
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mssync.errors import ParamsError
from mssync.points import ALL, PointSetName

Ratio = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Frozen, unknown keys refused, numbers never read from strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Run(Section):
    """How every stage runs; never changes a result beyond rounding, but for `seed`."""

    seed: int = Field(ge=0, description="Seed of every random draw.")
    device: Literal["auto", "cpu", "cuda"] = Field(description="`auto`: CUDA where there is one.")
    deterministic: bool = Field(
        description="On CUDA, only kernels that give the same result every time; slower."
    )
    threads: Count = Field(description="Threads of torch, fixed because they change rounding.")
    workers: Count = Field(
        description="Worker processes or connections of the data stages, threads that make batches."
    )


class Paths(Section):
    """Where things outside the stages' own inputs and outputs live."""

    tracking_uri: str = Field(
        min_length=1, description="MLflow store; $MLFLOW_TRACKING_URI wins where it is set."
    )
    experiment: str = Field(min_length=1, description="MLflow experiment the runs go to.")
    model_name: str = Field(min_length=1, description="Name of the generator in the registry.")


class HostLimits(Section):
    """How hard one host may be asked."""

    requests_per_s: Positive = Field(description="Mean rate of requests.")
    burst: Count = Field(description="Requests that may go out at once after a rest.")
    connections: Count = Field(description="Downloads at a time.")


class DownloadVideos(Section):
    """Fetching the listed sources into the media store and cutting them."""

    attempts: Count = Field(description="Tries per source; only passing failures are tried again.")
    backoff_s: Positive = Field(description="Wait before the second try; doubles with each.")
    max_wait_s: Positive = Field(
        description="Longest wait for a host; one that asks for more is left for a later run."
    )
    timeout_s: Positive = Field(description="Longest silence of a server.")
    min_bytes_per_s: float = Field(ge=0, description="Slowest mean rate over `timeout_s`.")
    max_redirects: int = Field(ge=0, description="Most redirects of one request.")
    connections: Count = Field(description="Downloads at a time, over all hosts.")
    per_host: HostLimits = Field(description="How hard any host may be asked.")
    hosts: dict[str, HostLimits] = Field(
        description="Other limits, by host (`example.org`) or web video site (`youtube`)."
    )
    breaker_failures: Count = Field(
        description="Refusals of a host in a row (bot check, 429, 403, no answer) that pause it."
    )
    breaker_pause_s: Positive = Field(description="First pause; doubles with each.")
    breaker_pauses: int = Field(
        ge=0, description="Pauses in a row after which a host is left for a later run."
    )
    site_format: str = Field(min_length=1, description="yt-dlp's format selector.")
    honour_opt_out: bool = Field(description="Leave out what asks not to be trained on.")
    revalidate: bool = Field(description="Ask for finished items again: have they changed?")
    max_bytes: Count = Field(description="Largest source that is fetched.")
    max_duration_s: Positive = Field(description="Longest clip that is kept.")
    max_pixels: Count = Field(description="Largest picture, width times height.")
    probe_s: Positive = Field(description="Most seconds that probing a file may take.")
    probe_bytes: int = Field(
        ge=500_000_000,
        description="Most address space of a process that probes or cuts; 4K takes 1.5 GB.",
    )
    min_free_bytes: int = Field(ge=0, description="Disk space that is left free.")
    run_bytes: int = Field(ge=0, description="Most bytes a run fetches; 0: no limit.")
    run_media_s: float = Field(
        ge=0, description="Most seconds of media a run fetches; 0: no limit."
    )
    min_success_ratio: Ratio = Field(description="Below this share of usable sources: stage fails.")


class ExtractLandmarks(Section):
    """Finding the face and following its 68 landmarks."""

    backend: Literal["mediapipe", "face_alignment", "dlib"] = Field(
        description="Landmark detector."
    )
    detection_confidence: Ratio = Field(description="Least score at which a face is taken up.")
    tracking_confidence: Ratio = Field(description="Least score at which a face is followed.")
    detect_every_frames: Count = Field(description="Frames between two searches for faces.")
    max_faces: Count = Field(description="Most faces followed at a time; the widest of them wins.")
    shot_threshold: Positive = Field(
        description="Change of hue, saturation and brightness, each of 255, that begins a shot."
    )
    max_source_fps_hz: Positive = Field(
        description="Above this rate faces are found only on the frames nearest to the 25 Hz ticks."
    )
    max_side_px: int = Field(ge=128, description="Larger pictures are made smaller first.")
    fan_batch: Count = Field(description="face_alignment: faces in one pass of the network.")
    fan_subpixel: bool = Field(
        description="face_alignment: points between the cells of the heat map, not in quarters."
    )
    fan_flip: bool = Field(description="face_alignment: look at the mirrored face too.")
    fan_bfloat16: bool = Field(description="face_alignment: half precision, on CUDA only.")
    max_pixels: Count = Field(description="Largest picture that is decoded, width times height.")
    process_bytes: int = Field(
        ge=2_000_000_000, description="Most address space of a worker process."
    )
    max_s_per_s: Positive = Field(
        description="Most seconds a clip may take for a second of it, after the first minute."
    )
    clips_per_part: Count = Field(description="Rows of one parquet part.")
    min_success_ratio: Ratio = Field(description="Below this share of tracked clips: stage fails.")


class ExtractAudio(Section):
    """Log mel energies and MFCC, four rows a frame (docs/ms-sync.md, section 1)."""

    pre_emphasis: Ratio = Field(description="Coefficient of x[n] - a x[n - 1].")
    mel_bands: Count = Field(description="Mel bands between 0 and 8 kHz.")
    mfcc: Count = Field(description="Cepstral coefficients, the first replaced by log energy.")
    wide_mel_bands: int = Field(
        ge=0, le=128, description="Bands of a second, wider mel set beside them; 0: none."
    )
    speech_threshold: Ratio = Field(description="Probability at which a row counts as speech.")
    process_bytes: int = Field(
        ge=2_000_000_000, description="Most address space of a worker process."
    )
    max_s_per_s: Positive = Field(
        description="Most seconds a clip may take for a second of it, after the first minute."
    )
    clips_per_part: Count = Field(description="Rows of one parquet part.")
    min_success_ratio: Ratio = Field(description="Below this share of clips with sound: fails.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mfcc > self.mel_bands:
            raise ValueError(f"mfcc ({self.mfcc}) cannot exceed mel_bands ({self.mel_bands})")
        return self


class BuildDataset(Section):
    """Joining, filtering, normalising and splitting. Every threshold that only decides is here."""

    min_frames: int = Field(ge=20, description="Shortest stretch of a clip kept, at 25 Hz.")
    max_jump: Positive = Field(
        description="Move of the face between ticks that ends a stretch, in inter-ocular distances."
    )
    max_gap_frames: int = Field(
        ge=0, description="Most interpolated ticks in a row; more end a stretch."
    )
    max_length_mismatch_s: float = Field(
        ge=0, description="Most sound that may be missing at an end; more is cut off."
    )
    min_tracked_ratio: Ratio = Field(description="Least share of frames in which a face was found.")
    min_source_fps_hz: float = Field(ge=0, description="Lowest rate of the source's frames.")
    min_confidence: Ratio = Field(description="Least mean confidence of the face track.")
    min_interocular_px: float = Field(ge=0, description="Smallest face, outer eye corners apart.")
    max_faces_ratio: Ratio = Field(description="Largest share of frames that show a second face.")
    max_yaw_deg: float = Field(ge=0, le=180, description="Largest turn, 95th percentile.")
    min_blur: float = Field(ge=0, description="Least detail of the face (records.LANDMARK_SCORES).")
    max_jitter: Positive = Field(
        description="Most noise of a still head's points, RMS, in inter-ocular distances."
    )
    min_mouth_texture: float = Field(
        ge=0, description="Least detail of the mouth's picture over that of the eyes."
    )
    max_frozen_ratio: Ratio = Field(
        description="Largest share of frames that repeat the one before."
    )
    min_mouth_energy: float = Field(
        ge=0, description="Least spread of the mouth's opening, in inter-ocular distances."
    )
    min_loudness_db: float = Field(le=0, description="Least RMS level, relative to full scale.")
    min_speech_ratio: Ratio = Field(description="Least share of the sound that is speech.")
    min_snr_db: float = Field(
        ge=-100, description="Least level of speech over the rest; -100 switches it off."
    )
    max_clipped_ratio: Ratio = Field(description="Largest share of samples at full scale.")
    min_mouth_loudness_correlation: float = Field(
        ge=-1, le=1, description="Least correlation of mouth and sound; -1 switches it off."
    )
    min_av_confidence: Ratio = Field(
        description="Confidence from which an offset of the sound is believed."
    )
    max_av_offset_ms: float = Field(
        ge=0, description="Largest offset of the sound that is believed; 640 switches it off."
    )
    max_av_drift_ms_per_s: float = Field(
        gt=0, description="Largest drift of the sound that is believed."
    )
    correct_av_offset: bool = Field(
        description="Shift the sound by an offset that is believed, to the nearest 10 ms."
    )
    smoothing_frames: int = Field(ge=1, description="Odd width of the centred mean over time.")
    crop_scale: float = Field(gt=1, description="Side of the crop over the track's extent.")
    salt: str = Field(description="Hashed with a speaker's name to draw their split.")
    val_ratio: Ratio = Field(description="Share of speakers for validation.")
    test_ratio: Ratio = Field(description="Share of speakers for the final test.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.smoothing_frames % 2 == 0:
            raise ValueError(f"smoothing_frames must be odd, found {self.smoothing_frames}")
        if self.val_ratio + self.test_ratio >= 1:
            raise ValueError("val_ratio + test_ratio must leave speakers to train on")
        return self


Stages4 = Annotated[list[Count], Field(min_length=4, max_length=4)]


SyncerInputs = Literal["absolute", "displacement", "relative"]


class Loop(Section):
    """How networks are trained, whatever they are (mssync.training.loop)."""

    precision: Literal["float32", "bfloat16"] = Field(
        description="Of the forward pass; weights, losses and positions stay float32."
    )
    cuda_graph: bool = Field(
        description="On a GPU, record a step and replay it; several processes never do."
    )
    warmup_steps: int = Field(ge=0, description="Steps in which learning rates rise from 0.")
    decay: Literal["constant", "linear", "cosine"] = Field(
        description="Of the learning rates after the warm-up, to 0 at the last step."
    )
    max_grad_norm: float = Field(ge=0, description="Clip of a gradient's norm; 0: none.")
    ema_decay: float = Field(
        ge=0, lt=1, description="Moving average of the weights that is kept; 0: the last weights."
    )
    validate_every_steps: int = Field(
        ge=0, description="Steps between two validations; 0: only one, at the end."
    )
    patience: int = Field(
        ge=0,
        description="Validations without a gain after which it stops, with the best weights; 0: "
        "all steps are made and the last weights kept.",
    )
    log_every_steps: Count = Field(description="Steps between two reports.")
    checkpoint_every_steps: Count = Field(description="Steps between two resumable checkpoints.")
    keep_checkpoints: Count = Field(description="Resumable checkpoints kept, the newest.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.patience and not self.validate_every_steps:
            raise ValueError(f"patience {self.patience} needs validate_every_steps, found 0")
        return self


class TrainSyncers(Section):
    """The guide pyramid and the evaluator pyramid (docs/ms-sync.md, section 3)."""

    kernel: int = Field(ge=1, description="Odd width of the pyramid's box mean, in samples.")
    motion_stem: Count = Field(description="Width of the motion tower's stem.")
    motion_widths: Stages4 = Field(description="Widths of the motion tower's four stages.")
    audio_stem: Count = Field(description="Width of the audio tower's stem.")
    audio_widths: Stages4 = Field(description="Widths of the audio tower's four stages.")
    blocks: Stages4 = Field(description="Blocks in each of the four stages.")
    embedding: Count = Field(description="Width of both embeddings.")
    guide_inputs: SyncerInputs = Field(
        description="`absolute`: positions and log energies, the paper's. `displacement`: how far "
        "points are from the clip's mean face, so that faces are not known by where they are. "
        "`relative`: what changes within a window."
    )
    evaluator_inputs: SyncerInputs = Field(description="The same, of evaluators.")
    standardise: bool = Field(description="Standardise inputs by the training set's statistics.")
    cross_clip_group: int = Field(ge=4, description="Windows of a group pooled over clips.")
    same_clip_group: int = Field(ge=4, description="Windows of a group from one clip.")
    groups_per_step: Count = Field(description="Groups in one optimisation step.")
    pairs: list[Literal["cross_clip", "same_clip"]] = Field(
        min_length=4, max_length=4, description="Kind of group per level 0..3."
    )
    valid_only: bool = Field(description="Leave out windows that touch padding.")
    temperature: float = Field(
        ge=0.01, description="Temperature of the cosines at the start; 1: none."
    )
    learn_temperature: bool = Field(description="Train the temperature.")
    margin: float = Field(ge=0, description="Margin on the diagonal at the start.")
    margin_growth: float = Field(ge=1, description="Factor on the margin every 1000 steps.")
    max_margin: float = Field(ge=0, description="Largest margin.")
    guide_steps: list[int] = Field(
        min_length=4, max_length=4, description="Steps per level 0..3; 0 leaves a level out."
    )
    evaluator_steps: list[int] = Field(
        min_length=4, max_length=4, description="Steps per level 0..3, of each set of points."
    )
    evaluator_points: list[PointSetName] = Field(
        min_length=1,
        description="Sets of points that evaluators see, each a pyramid of its own: `all`, which "
        "is needed, `no_lips`, `lips`.",
    )
    evaluator_margin: Positive = Field(description="Margin of SyncNet's contrastive loss.")
    optimiser: Literal["adam", "adamw"] = Field(
        description="`adamw`: weight decay apart from the gradient's scale."
    )
    learning_rate: Positive = Field(description="Of the optimiser.")
    weight_decay: float = Field(ge=0, description="Of the optimiser.")
    augment: bool = Field(
        description="Scale, shift, flip and audio gain (docs/ms-sync.md, section 6)."
    )
    loop: Loop

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, found {self.kernel}: an even one shifts time")
        if any(steps < 0 for steps in [*self.guide_steps, *self.evaluator_steps]):
            raise ValueError("guide_steps and evaluator_steps cannot be negative")
        if self.guide_steps[0] == 0 or self.evaluator_steps[0] == 0:
            raise ValueError("level 0 (the lips) cannot be left out: give it steps")
        points = self.evaluator_points
        if ALL not in points or len(set(points)) < len(points):
            raise ValueError(f"evaluator_points must name {ALL}, and each once, found {points}")
        return self


class GeneratorSize(Section):
    """Widths and depths of the autoregressive generator (docs/ms-sync.md, section 4)."""

    coordinate_hidden: Annotated[list[Count], Field(min_length=2, max_length=2)] = Field(
        description="Hidden widths of the coordinate encoder."
    )
    sees_source: bool = Field(
        description="Show how far each point is from where it began; the paper's does not."
    )
    pull: float = Field(
        ge=0,
        lt=1,
        description="Share of the way from where a point began that each step takes back, so that "
        "errors do not add up; the paper's: 0.",
    )
    width: Count = Field(description="Width of coordinate and audio embeddings.")
    temporal_module: Literal["transformer", "lstm"] = Field(
        description="What remembers; the LSTM, of the same width, is a baseline."
    )
    temporal: Count = Field(description="Width of the temporal module's output.")
    layers: Count = Field(description="Layers of the temporal module.")
    heads: Count = Field(description="Attention heads of the Transformer; divides `width`.")
    feedforward: Count = Field(description="Width of the Transformer's feed-forward part.")
    history_frames: Count = Field(description="Embeddings that the Transformer sees.")
    audio_widths: Stages4 = Field(description="Widths of the audio pyramid down to 25 Hz.")
    branch_width: Count = Field(description="Width inside each of the five branches.")
    branch_blocks: Count = Field(description="Residual blocks of each branch head.")
    branch_expansion: Count = Field(description="Expansion inside those blocks.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class CriticSize(Section):
    """Widths of the shared embedding and both critics (docs/ms-sync.md, section 5)."""

    embedding_hidden: Annotated[list[Count], Field(min_length=2, max_length=2)] = Field(
        description="Hidden widths of the shared embedding."
    )
    embedding: Count = Field(description="Width of the shared embedding.")
    frame_hidden: Count = Field(description="Last hidden width of the frame critic.")
    state: Count = Field(description="Width of the sequence critic's LSTM state.")
    projection: Count = Field(description="Hidden width of its projection head.")
    window_frames: list[Count] = Field(min_length=1, description="Sliding windows it judges.")


class LossWeights(Section):
    """Weights of the generator's loss terms; one of 0 teaches nothing and is still logged."""

    adversarial_frame: float = Field(ge=0)
    adversarial_sequence: float = Field(ge=0)
    sync: float = Field(ge=0)
    position: float = Field(ge=0)
    reconstruction: float = Field(ge=0)
    velocity: float = Field(ge=0)
    rigidity: float = Field(ge=0)


class TrainGenerator(Section):
    """The landmark generator and its two critics (docs/ms-sync.md, sections 4 and 5)."""

    generator: GeneratorSize
    critics: CriticSize
    weights: LossWeights
    sync_levels: list[Annotated[int, Field(ge=0, le=3)]] = Field(
        min_length=1, description="Levels of the sync loss; [0]: single scale."
    )
    observed_frames: Count = Field(description="Teacher-forced frames at the start.")
    predicted_frames: Count = Field(description="Free-running frames.")
    context_frames: int = Field(
        ge=0, description="Real frames appended on each side for the sync loss of levels 2-3."
    )
    standardise: bool = Field(description="Standardise inputs by the training set's statistics.")
    steps: Count = Field(description="Optimisation steps.")
    batch: Count = Field(description="Sequences in a step.")
    generator_learning_rate: Positive = Field(description="Of Adam, betas (0, 0.999).")
    critic_learning_rate: Positive = Field(description="Of Adam, betas (0, 0.999).")
    augment: bool = Field(
        description="Scale, shift, flip and audio gain (docs/ms-sync.md, section 6)."
    )
    loop: Loop

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.sync_levels)) != len(self.sync_levels):
            raise ValueError(f"sync_levels must differ, found {self.sync_levels}")
        frames = self.observed_frames + self.predicted_frames
        if frames < 5:
            raise ValueError(
                f"observed_frames + predicted_frames must be at least 5, a window, found {frames}"
            )
        context = min(2, self.observed_frames)  # frames that the critics see before the motion
        bound = self.predicted_frames + context
        if min(self.critics.window_frames) > bound:
            raise ValueError(
                f"one of critics.window_frames must be at most {bound} (predicted_frames + "
                f"{context}), found {self.critics.window_frames}"
            )
        return self


class Retrieval(Section):
    """Motion cut out of the training set by its sound (`metrics/baselines.py`)."""

    piece_frames: int = Field(ge=5, description="Greatest length of a piece.")
    candidates: Count = Field(description="Most places of the training set tried for a piece.")
    continuity: float = Field(
        ge=0, description="Weight of the gap between pieces against the distance of their sound."
    )
    blend_frames: Count = Field(description="Frames in which the gap at a join fades.")


class Failures(Section):
    """What is called a failed clip (`metrics/failures.py`)."""

    false_alarm_rate: float = Field(
        gt=0, lt=1, description="Share of real clips that each detector may call a failure."
    )
    window_frames: int = Field(
        ge=10, description="Length over which energy, lips, pose and synchrony are judged."
    )
    shape_axes: Count = Field(description="Principal axes of the movement within a face.")


# no dots: names are keys of metrics.json, which `promote.metric` joins by dots
SystemName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


class Rollouts(Section):
    """How generators do far beyond the length they were trained on (`metrics/rollout.py`)."""

    frames: int = Field(
        ge=240, description="Longest roll-out; fewer where a speaker has less sound."
    )
    speakers: int = Field(ge=0, description="Most held-out speakers rolled out; 0: none.")


class Rendered(Section):
    """Distances of drawn faces, by networks that the user brings (`metrics/rendered.py`)."""

    inception: str = Field(description="File of Inception's weights: FID, t-FID. Empty: neither.")
    i3d: str = Field(description="TorchScript file of I3D: FVD. Empty: none.")
    every_frames: int = Field(ge=1, le=40, description="FID looks at one frame in so many.")


class Evaluate(Section):
    """Scores, plots and the gallery (docs/ms-sync.md, section 7)."""

    frames: int = Field(
        ge=65, description="Length of the sequences; 25 frames less must leave a level-3 window."
    )
    max_sequences: Count = Field(description="Most sequences scored; evenly taken over clips.")
    training_clips: Count = Field(
        description="Most training clips that retrieval searches and principal axes are of."
    )
    gallery_clips: Count = Field(description="Sequences shown in the gallery.")
    bootstrap: int = Field(ge=100, description="Resamples of an interval.")
    frechet_axes: Count = Field(description="Principal axes of the small-sample Frechet distance.")
    retrieval: Retrieval
    failures: Failures
    rollouts: Rollouts
    rendered: Rendered
    systems: dict[SystemName, Annotated[str, Field(min_length=1)]] = Field(
        description="Name -> other systems scored on the same clips: `run:ID`, `alias:NAME`, or a "
        "folder with a checkpoint, with videos or with landmark files."
    )


class Guarded(Section):
    """A metric that must not get worse."""

    better: Literal["higher", "lower", "truth"] = Field(
        description="Where it should go; truth: towards the ground truth's value."
    )
    tolerance: float = Field(ge=0, description="Greatest loss that is put up with, in its unit.")


class Promote(Section):
    """When a challenger replaces the champion (docs/evaluation.md, "The gate")."""

    metric: str = Field(min_length=1, description="The metric that must get better.")
    min_improvement: float = Field(
        ge=0, description="What the interval of its gain must lie above, in its unit."
    )
    metrics: dict[str, Guarded] = Field(
        description="Keys of metrics.json that are compared; the deciding one is among them."
    )
    first: dict[str, float] = Field(
        description="Without a champion: the value that the interval of a metric must lie beyond; "
        "for truth, the distance from the ground truth that it must lie within."
    )
    untold: Literal["allow", "refuse"] = Field(
        description="What a metric means that cannot be told, other than the deciding one."
    )
    confidence: float = Field(gt=0.5, lt=1, description="Of the intervals.")
    resamples: int = Field(ge=100, description="Draws of speakers and their clips.")
    seed: int = Field(ge=0, description="Of the draws.")
    min_sequences: Count = Field(description="Fewest scored sequences that may decide anything.")
    min_speakers: Count = Field(description="Fewest speakers that may decide anything.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, where in (
            (self.metric, "metric"),
            *((name, "first") for name in self.first),
        ):
            if name not in self.metrics:
                raise ValueError(
                    f"{where} names {name}, which metrics lacks: it has {', '.join(self.metrics)}"
                )
        for name, guarded in self.metrics.items():
            if name.endswith(".normalised") and guarded.better != "higher":
                raise ValueError(
                    f"metrics.{name}.better must be higher, found {guarded.better}: a place is 0 "
                    "at another clip's audio and 1 at the ground truth, whatever the score"
                )
        if not self.first:
            raise ValueError("first asks for nothing: name at least the deciding metric in it")
        return self


class Params(Section):
    """The whole file."""

    run: Run
    paths: Paths
    download_videos: DownloadVideos
    extract_landmarks: ExtractLandmarks
    extract_audio: ExtractAudio
    build_dataset: BuildDataset
    train_syncers: TrainSyncers
    train_generator: TrainGenerator
    evaluate: Evaluate
    promote: Promote


def stage_names() -> list[str]:
    """The stages in order: the sections of the file but the shared ones."""
    return [name for name in Params.model_fields if name not in ("run", "paths")]


def load(path: Path) -> Params:
    """Read and validate a parameter file.

    Raises:
        ParamsError: If the file is missing, is not YAML or does not fit the schema. The message
            names every wrong field, the value found and the bound.
    """
    return load_as(Params, path, option="--params")


S = TypeVar("S", bound=Section)


def load_as(section: type[S], path: Path, *, option: str) -> S:
    """Read and validate a file of settings.

    Args:
        section: Their schema.
        path: The file.
        option: Of the command line, that names another file.

    Raises:
        ParamsError: As for `load`.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ParamsError(
            f"{path} does not exist. Run from the project's folder, or name the file: {option} FILE"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParamsError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ParamsError(f"{path} must hold sections, found {type(content).__name__}")
    return validate(section, content, name=str(path))


def text(params: Params) -> str:
    """The values as a parameter file."""
    return yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False)


def validate(section: type[S], content: Mapping[str, Any], *, name: str) -> S:
    """Check values against the schema.

    Kubeflow hands on every number as a float: a whole one is taken for an integer.

    Args:
        section: `Params`, or one of its sections.
        content: The values.
        name: What they are called, for the message.

    Raises:
        ParamsError: Naming every wrong field, the value found and the bound.
    """
    try:
        return section.model_validate(_with_whole_numbers(content))
    except ValidationError as error:
        raise ParamsError(f"{name} does not fit the schema:\n{_explain(error)}") from error


def override(section: S, settings: Iterable[str], *, name: str) -> S:
    """A section with some values replaced.

    Args:
        section: The values to start from.
        settings: `key=value` each, values as YAML writes them; `name.key` is the same as `key`.
        name: The section's name.

    Raises:
        ParamsError: If a key is not the section's, or a value does not fit the schema.
    """
    content = section.model_dump()
    for setting in settings:
        key, equals, text = setting.partition("=")
        field = key.strip().removeprefix(f"{name}.")
        if not equals or field not in content:
            raise ParamsError(
                f"{setting}: expected KEY=VALUE with a key of the section {name}, one of "
                f"{', '.join(content)}"
            )
        try:
            content[field] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ParamsError(f"{setting}: {text} cannot be read as YAML: {error}") from error
    return validate(type(section), content, name=name)


def _with_whole_numbers(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The same with 3 for 3.0, which a field of either type takes."""
    if isinstance(value, Mapping):
        return {name: _with_whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        found = "" if item["type"] == "missing" else f", found {_short(item['input'])}"
        lines.append(f"  {field}: {item['msg']}{found}")
    return "\n".join(lines)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def digest(params: BaseModel) -> str:
    """SHA-256 of the values, independent of the file's layout and comments."""
    text = json.dumps(params.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
