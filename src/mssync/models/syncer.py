"""Syncer: do five motion samples and twenty audio rows of one pyramid level belong together?

One per level, no weights shared (docs/ms-sync.md, section 3).
Axes: N windows, 5 motion samples, 20 audio rows, P = 68 points, D = 2, M mel bands, K = chosen
points x 2, E embedding.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssync.landmarks import ibug
from mssync.models.convnext import Tower
from mssync.models.standardise import Standardise
from mssync.params import SyncerInputs

# Bring changes from sample to sample and from row to row to about the spread of the rest.
VELOCITY_GAIN = 2.5
ENERGY_CHANGE_GAIN = 2.0


class Syncer(nn.Module):
    """A motion tower and an audio tower into one embedding space.

    Args:
        level: Level of the pyramid it listens to; level l runs at 25 / 2^l Hz.
        points: Indices of the iBUG-68 points that it sees.
        normalise: True for guides: embeddings of unit length, compared by their cosine. False for
            evaluators: compared by their Euclidean distance.
        motion_stem: Width of the motion tower's input and stem.
        motion_widths: Widths of its stages.
        audio_stem: Width of the audio tower's stem.
        audio_widths: Widths of its stages.
        blocks: Blocks of each stage, of both towers.
        embedding: Width of both embeddings.
        mel_bands: Audio channels.
        inputs: `absolute`: positions and log energies. `displacement`: motion, which the caller
            gives less the clip's mean face (`from_mean`), and its velocity, so that no face is
            known by where it is; log energies, the same less the window's own mean, and their
            changes. `relative`: the same, of motion less the window's own mean.
    """

    index_P: Tensor

    def __init__(
        self,
        *,
        level: int,
        points: Sequence[int],
        normalise: bool,
        motion_stem: int,
        motion_widths: Sequence[int],
        audio_stem: int,
        audio_widths: Sequence[int],
        blocks: Sequence[int],
        embedding: int,
        mel_bands: int = 26,
        inputs: SyncerInputs = "absolute",
    ) -> None:
        super().__init__()
        self.level = level
        self.points = tuple(points)
        self.normalise = normalise
        if not self.points or not set(self.points) <= set(range(ibug.POINTS)):
            raise ValueError(f"points must be indices below {ibug.POINTS}, found {self.points}")
        self.register_buffer("index_P", torch.tensor(self.points), persistent=False)
        self._sizes = {
            "motion_stem": motion_stem,
            "motion_widths": list(motion_widths),
            "audio_stem": audio_stem,
            "audio_widths": list(audio_widths),
            "blocks": list(blocks),
            "embedding": embedding,
            "mel_bands": mel_bands,
        }
        self.inputs = inputs
        coordinates = 2 * len(self.points)
        self.motion_norm = Standardise(coordinates)
        self.audio_norm = Standardise(mel_bands)
        of_motion, of_audio = (1, 1) if inputs == "absolute" else (2, 3)
        self.motion_input = nn.Linear(of_motion * coordinates, motion_stem)
        self.motion_tower = Tower(
            motion_stem, stem=motion_stem, widths=motion_widths, blocks=blocks, embedding=embedding
        )
        self.audio_tower = Tower(
            of_audio * mel_bands,
            stem=audio_stem,
            widths=audio_widths,
            blocks=blocks,
            embedding=embedding,
        )

    @property
    def from_mean(self) -> bool:
        """Whether motion is wanted less the clip's mean face."""
        return self.inputs == "displacement"

    def embed_motion(self, motion_N5PD: Tensor) -> Tensor:
        """Embed five samples of all 68 points: (N, 5, 68, 2) -> (N, E)."""
        features_N5C = self.motion_norm(self.choose(motion_N5PD))
        if self.inputs != "absolute":
            velocity_N5C = VELOCITY_GAIN * _changes(features_N5C)
            features_N5C = torch.cat([features_N5C, velocity_N5C], dim=2)
        return self._finish(self.motion_tower(self.motion_input(features_N5C)))

    def choose(self, motion_N5PD: Tensor) -> Tensor:
        """What is standardised of a window: the points that it sees, (N, 5, K)."""
        chosen_N5K = motion_N5PD.index_select(2, self.index_P).flatten(2)
        return _centred(chosen_N5K) if self.inputs == "relative" else chosen_N5K

    def embed_audio(self, audio_N20M: Tensor) -> Tensor:
        """Embed twenty rows of log mel energies: (N, 20, M) -> (N, E)."""
        features_N20C = self.audio_norm(audio_N20M)
        if self.inputs != "absolute":
            changes_N20M = ENERGY_CHANGE_GAIN * _changes(features_N20C)
            features_N20C = torch.cat([_centred(features_N20C), changes_N20M, features_N20C], dim=2)
        return self._finish(self.audio_tower(features_N20C))

    def forward(self, motion_N5PD: Tensor, audio_N20M: Tensor) -> tuple[Tensor, Tensor]:
        """Embed both: (N, E) and (N, E)."""
        return self.embed_motion(motion_N5PD), self.embed_audio(audio_N20M)

    def to_config(self) -> dict[str, Any]:
        """The arguments that build this module again, in JSON's types."""
        return {
            "level": self.level,
            "points": list(self.points),
            "normalise": self.normalise,
            "inputs": self.inputs,
            **self._sizes,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the module that `to_config` describes, with fresh weights."""
        return cls(**config)

    def _finish(self, embedding_NE: Tensor) -> Tensor:
        return F.normalize(embedding_NE, dim=-1) if self.normalise else embedding_NE


def _centred(x_NTC: Tensor) -> Tensor:
    """Less the mean over each window's time."""
    return x_NTC - x_NTC.mean(dim=1, keepdim=True)


def _changes(x_NTC: Tensor) -> Tensor:
    """From each sample to the next; 0 for the first."""
    return F.pad(x_NTC.diff(dim=1), (0, 0, 1, 0))
