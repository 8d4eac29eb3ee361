"""The loop that people write: one clip at a time, the packages' public functions, frame by frame.

It is what the packages' own examples say: cv2.VideoCapture; a FaceMesh for the clip, called for
each frame, and a FaceDetection, for the score that FaceMesh does not give; ffmpeg to a WAV file,
python_speech_features' mfcc and logfbank. It puts nothing on a clock, sees no cut, follows no one
face, measures no quality, finds no speech and bounds no memory.
"""

import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
from mediapipe.python.solutions.face_detection import FaceDetection
from mediapipe.python.solutions.face_mesh import FaceMesh
from python_speech_features import logfbank, mfcc  # type: ignore[import-untyped]
from scipy.io import wavfile

from mssync.landmarks import ibug
from mssync.landmarks.mediapipe_backend import quiet
from mssync.media.ffmpeg import executable


def landmarks(path: Path, *, detector: bool = True) -> None:
    """68 points of each frame.

    Args:
        path: The clip.
        detector: Whether FaceDetection is called too.
    """
    video = cv2.VideoCapture(str(path))
    with quiet(), FaceMesh(max_num_faces=1) as mesh, FaceDetection() as detection:
        while True:
            is_there, picture = video.read()
            if not is_there:
                break
            shown = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            if detector:
                detection.process(shown)
            faces = mesh.process(shown).multi_face_landmarks
            if faces:
                height, width = shown.shape[:2]
                points = [(point.x * width, point.y * height) for point in faces[0].landmark]
                ibug.from_mediapipe(np.array(points, np.float32))
    video.release()


def audio(path: Path) -> None:
    """MFCC and log energies."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "sound.wav"
        subprocess.run(
            [executable(), "-v", "error", "-i", path, "-ac", "1", "-ar", "16000", wav], check=True
        )
        rate_hz, samples = wavfile.read(wav)
    mfcc(samples, rate_hz)
    logfbank(samples, rate_hz)
