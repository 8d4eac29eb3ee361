"""SyncNet's contrastive loss on the Euclidean distance (docs/ms-sync.md, section 3).

Axes: N windows, E embedding.
"""

import torch.nn.functional as F
from torch import Tensor


def contrastive(
    motion_NE: Tensor, audio_NE: Tensor, negative_audio_NE: Tensor, *, margin: float
) -> Tensor:
    """Pull true pairs together, push false ones apart up to `margin`.

    Args:
        motion_NE: Motion embeddings, of any length, shape (N, E).
        audio_NE: Embeddings of the windows' own audio.
        negative_audio_NE: Embeddings of other windows' audio, one for each.
        margin: Distance from which a false pair costs nothing; SyncNet's is 10.

    Returns:
        Scalar: half the mean, over all 2 N pairs, of d^2 where the pair is true and
        max(0, margin - d)^2 where it is false.

    Raises:
        ValueError: If the shapes differ.
    """
    if not motion_NE.shape == audio_NE.shape == negative_audio_NE.shape:
        raise ValueError(
            f"three equal shapes are needed, found {tuple(motion_NE.shape)}, "
            f"{tuple(audio_NE.shape)} and {tuple(negative_audio_NE.shape)}"
        )
    true_N = F.pairwise_distance(motion_NE, audio_NE)
    false_N = F.pairwise_distance(motion_NE, negative_audio_NE)
    return (true_N.square().mean() + F.relu(margin - false_N).square().mean()) / 4
