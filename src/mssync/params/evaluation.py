"""Parameters of what judges a generator, and of what judges the judgement."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mssync.params.section import Count, Section


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
