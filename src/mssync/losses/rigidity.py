"""Does the face keep its shape? (docs/ms-sync.md, section 5).

Points that do not move with speech are compared with the source face after the best affine map, so
that turning, nodding and moving cost nothing and shearing apart does. (A similarity would punish
real yaw.)

Axis letters: B clips, T frames, P = 68 points, R = 14 rigid points, D = 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mssync.device import constant
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
    rigid_R = constant(RIGID, motion_BTPD.device)
    source_BRD = _centred(source_BPD.index_select(1, rigid_R))
    motion_BTRD = _centred(motion_BTPD.index_select(2, rigid_R))
    # Columns x and y made orthonormal: with the centre, they span the source's affine images.
    x_BR, y_BR = source_BRD.unbind(2)
    first_BR = F.normalize(x_BR, dim=1)
    second_BR = F.normalize(y_BR - (first_BR * y_BR).sum(dim=1, keepdim=True) * first_BR, dim=1)
    basis_B1RD = torch.stack([first_BR, second_BR], dim=2)[:, None]
    return motion_BTRD - basis_B1RD @ (basis_B1RD.mT @ motion_BTRD)


def _centred(points: Tensor) -> Tensor:
    """Points (..., R, 2) less their mean."""
    return points - points.mean(dim=-2, keepdim=True)
