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
    "too_costly": Reason("never", "probing or cutting took too much memory, time or picture"),
    "budget": Reason("later", "not asked, or stopped: the run's budget is spent"),
    "disk": Reason("later", "less than `min_free_bytes` left where media are stored"),
    # local files and object stores
    "not_found": Reason("later", "there is no such file or object"),
    "unreadable": Reason("later", "a file or object that may not be read"),
    # what came
    "not_a_video": Reason("never", "a web page, text, an empty file: no media container"),
    "corrupt": Reason("never", "damaged: cannot be decoded, or the part cannot be cut from it"),
    "no_video": Reason("never", "no picture that moves"),
    "bad_timestamps": Reason("never", "the timestamps span more than six hours"),
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
    "too_short": Reason("never", "fewer than `min_frames` frames"),
    "too_few_frames": Reason("never", "a frame rate below `min_source_fps_hz`"),
    "face_lost": Reason("never", "the face is lost too often or too long"),
    "low_confidence": Reason("never", "the detector was not sure enough"),
    "face_too_small": Reason("never", "eyes closer than `min_interocular_px`"),
    "silent": Reason("never", "quieter than `min_loudness_db`"),
    "face_jumps": Reason("never", "the face jumps: a cut in the video"),
    "several_faces": Reason("never", "too many frames show more than one face"),
    "length_mismatch": Reason("never", "sound and picture differ in length"),
}

REASONS = DOWNLOAD | EXTRACTION | DATASET
