"""Parameters of both trainings and of the networks they train."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mssync.params.section import Count, Positive, Section
from mssync.points import ALL, PointSetName

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
