"""A motion taken apart: where the head is, and what the face does there.

The points that speech does not move give each frame's best affine map from the first frame. The
map is the pose; what it leaves over is the face's own movement. Both are in inter-ocular distances
of the first frame, so that the size of the crop changes nothing.

Axes: T frames, P = 68 points, D = 2, R = 14 rigid points, C = 6 coordinates of the pose.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug

_LEAST_DISTANCE = 1e-6  # crop sides; a face whose eyes meet is no face


@dataclass(frozen=True)
class Movement:
    """A motion, relative to its first frame.

    Attributes:
        pose_TC: Where the face's centre has moved to, x and y in inter-ocular distances, and how
            the axes have changed, the four numbers of the affine map less the identity's.
        own_TPD: What the map of the first frame leaves over, in inter-ocular distances.
    """

    pose_TC: NDArray[np.float64]
    own_TPD: NDArray[np.float64]

    @property
    def rigid(self) -> NDArray[np.float64]:
        """What is left over at the points that speech does not move: (T, R, D)."""
        return self.own_TPD[:, list(ibug.RIGID)]


def movement(motion_TPD: NDArray[np.float32]) -> Movement:
    """Take a motion (T, 68, 2) apart; frames that are not finite stay so."""
    source_PD = motion_TPD[0].astype(np.float64)
    scale = max(float(ibug.interocular_distance(motion_TPD[0])), _LEAST_DISTANCE)
    rigid = list(ibug.RIGID)
    centre_D = source_PD[rigid].mean(axis=0)
    source_P3 = np.concatenate([(source_PD - centre_D) / scale, np.ones((len(source_PD), 1))], 1)
    scaled_TPD = (motion_TPD.astype(np.float64) - centre_D) / scale
    affine_T3D = np.linalg.pinv(source_P3[rigid]) @ scaled_TPD[:, rigid]
    axes_T4 = (affine_T3D[:, :2] - np.eye(2)).reshape(len(motion_TPD), 4)
    return Movement(
        pose_TC=np.concatenate([affine_T3D[:, 2], axes_T4], axis=1),
        own_TPD=scaled_TPD - source_P3 @ affine_T3D,
    )
