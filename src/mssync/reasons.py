"""Why a clip is left out: every reason code of every stage, in one place.

`ledger/<stage>/decisions.parquet` holds these codes; docs/data.md prints this table.
"""

from dataclasses import dataclass
from typing import Literal

# When asking again may help: at once, in a later run, or not before the source itself changes.
Again = Literal["now", "later", "never"]


@dataclass(frozen=True)
class Reason:
    """One cause.

    Attributes:
        again: When the download tries it again: `now` in the same run, after a wait, and in later
            runs; `later` in later runs; `never` unless somebody asks for it.
        meaning: One line for people.
    """

    again: Again
    meaning: str


DOWNLOAD = {
    # the way there
    "connection": Reason("now", "connection refused, lost, or ended early; no such host"),
    "timeout": Reason("now", "no byte for `timeout_s`, or slower than `min_bytes_per_s`"),
    "server_error": Reason("now", "the server failed (5xx), or answered what HTTP does not allow"),
    "rate_limit": Reason("now", "too many requests (429): `Retry-After` is waited for"),
    "bot_check": Reason("later", "the site asks to prove that no robot is asking"),
    "host_paused": Reason("later", "not asked: the host refused too often in this run"),
    "redirects": Reason("never", "more than `max_redirects` redirects, or a circle of them"),
    # who may have it
    "gone": Reason("never", "404, 410 or another 4xx; deleted; the account is closed"),
    "private": Reason("never", "the owner shows it to few, or to members only"),
    "auth": Reason("later", "401 or 407: wants a login, which the secrets can hold"),
    "forbidden": Reason("later", "403: refused without a cause"),
    "geo": Reason("never", "not shown in this country, or withheld for legal reasons (451)"),
    "age": Reason("never", "only for grown-ups who log in"),
    "drm": Reason("never", "protected against copying"),
    "live": Reason("later", "a live stream, or a premiere to come"),
    "site": Reason("later", "the site's page is not understood: yt-dlp may need an update"),
    # what we do not do
    "refused": Reason("later", "a scheme, address or redirect that is not allowed"),
    "opt_out": Reason("never", "the server asks not to be used for training (noai, noimageai)"),
    "taken_down": Reason("never", "on the takedown list"),
    "too_large": Reason("never", "more than `max_bytes`"),
    "too_long": Reason("never", "longer than `max_duration_s`: give `start_s` and `end_s`"),
    "too_costly": Reason("never", "reading it took too much memory, time or picture"),
    "budget": Reason("later", "not asked, or stopped: the run's budget is spent"),
    "disk": Reason("later", "less than `min_free_bytes` left where media are stored"),
    # local files and object stores
    "not_found": Reason("later", "there is no such file or object"),
    "unreadable": Reason("later", "a file or object that may not be read"),
    # what came
    "not_a_video": Reason("never", "a web page, text, an empty file: no media container"),
    "corrupt": Reason("never", "damaged: cannot be decoded, or the part cannot be cut from it"),
    "no_video": Reason("never", "no picture that moves"),
    "bad_timestamps": Reason(
        "never", "the timestamps go back, are missing, leave a minute empty, or span over six hours"
    ),
    "empty_cut": Reason("never", "the cut starts after the source has ended"),
    "bad_crop": Reason("never", "the crop box lies outside the picture, or leaves none of it"),
    "duplicate": Reason("never", "the same bytes as a clip that is kept"),
    "bug": Reason("later", "this program failed on it; its log has the traceback"),
}

EXTRACTION = {
    "no_face": Reason("never", "no face in any frame"),
    "no_audio": Reason("never", "no sound, or none that can be decoded"),
    "crashed": Reason("never", "the decoder or detector died on this clip"),
}

DATASET = {
    # what can be used of it
    "too_short": Reason("never", "fewer than `min_frames` frames"),
    "shot_changes": Reason("never", "no shot has `min_frames` frames"),
    "face_jumps": Reason("never", "no stretch of `min_frames` without a move beyond `max_jump`"),
    "face_lost": Reason(
        "never",
        "no such stretch without a gap beyond `max_gap_frames`; or a face in less than "
        "`min_tracked_ratio` of the frames",
    ),
    "length_mismatch": Reason("never", "no such stretch that the sound covers"),
    # the picture
    "too_few_frames": Reason("never", "a frame rate below `min_source_fps_hz`"),
    "low_confidence": Reason("never", "less sure of the face than `min_confidence`: often no face"),
    "face_too_small": Reason("never", "eyes closer than `min_interocular_px`"),
    "several_faces": Reason("never", "another face in more than `max_faces_ratio` of the frames"),
    "turned_away": Reason("never", "turned by more than `max_yaw_deg`"),
    "blurred": Reason("never", "a face with less detail than `min_blur`"),
    "jitter": Reason("never", "points that shake by more than `max_jitter` while the head rests"),
    "mouth_hidden": Reason("never", "a mouth with less detail than `min_mouth_texture`: covered"),
    "frozen": Reason("never", "more than `max_frozen_ratio` of the frames repeat the one before"),
    "mouth_still": Reason("never", "the mouth moves by less than `min_mouth_energy`"),
    # the sound
    "silent": Reason("never", "quieter than `min_loudness_db`"),
    "no_speech": Reason("never", "speech in less than `min_speech_ratio` of the time"),
    "noisy": Reason("never", "speech less than `min_snr_db` above the rest"),
    "clipped": Reason("never", "more than `max_clipped_ratio` of the samples at full scale"),
    # both
    "mute_mouth": Reason("never", "the mouth does not move with the sound"),
    "out_of_sync": Reason("never", "the sound is late or early by more than `max_av_offset_ms`"),
    "drifting": Reason("never", "the sound drifts by more than `max_av_drift_ms_per_s`"),
    # other clips
    "leak_bridge": Reason("never", "the same footage as a clip in another split"),
}

REASONS = DOWNLOAD | EXTRACTION | DATASET
