"""Does the face keep its shape? (docs/ms-sync.md, section 5).

Points that do not move with speech are compared with the source face after the best affine map, so
that turning, nodding and moving cost nothing and shearing apart does. (A similarity would punish
real yaw.)

Axis letters: B clips, T frames, P = 68 points, R = 14 rigid points, D = 2.
"""

import torch
from torch import Tensor

from mssync.landmarks.ibug import RIGID


def rigidity_loss(motion_BTPD: Tensor, source_BPD: Tensor) -> Tensor:
    """Mean squared distance between the rigid points and the affine-aligned source's; scalar.

    Args:
        motion_BTPD: Shape (B, T, 68, 2), in crop units.
        source_BPD: Shape (B, 68, 2).
    """
    return _residual(motion_BTPD, source_BPD).square().sum(dim=-1).mean()


def rigidity(motion_BTPD: Tensor, source_BPD: Tensor) -> Tensor:
    """The same of each clip, as a root mean square distance in crop units, for reports: (B,)."""
    return _residual(motion_BTPD, source_BPD).square().sum(dim=-1).mean(dim=(1, 2)).sqrt()


def _residual(motion_BTPD: Tensor, source_BPD: Tensor) -> Tensor:
    """What the best affine map of the source's rigid points leaves over: (B, T, R, 2)."""
    rigid = list(RIGID)
    source_BRD = source_BPD[:, rigid]
    motion_BTRD = motion_BTPD[:, :, rigid]
    # Columns x, y, 1 made orthonormal: what lies in their span is an affine image of the source.
    basis_BR3 = torch.cat([source_BRD, torch.ones_like(source_BRD[..., :1])], dim=2)
    basis_B1R3 = torch.linalg.qr(basis_BR3).Q[:, None]
    residual_BTRD: Tensor = motion_BTRD - basis_B1R3 @ (basis_B1R3.mT @ motion_BTRD)
    return residual_BTRD
