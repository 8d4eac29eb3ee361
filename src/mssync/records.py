"""What stages hand each other: Parquet schemas, read, write, validate.

Units and shapes are written into the metadata of every file. Arrays of a clip are stored flat, one
row per clip; T frames (25 Hz), A = 4 T audio rows (100 Hz), P = 68 points, D = 2.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from mssync.errors import InputError

Row = dict[str, Any]

# Rows that are in memory at a time where a table is written or read as a stream.
GROUP_ROWS = 10_000

# The page of an evaluation, beside its scores.
GALLERY = Path("gallery") / "index.html"


def _schema(fields: Mapping[str, tuple[Any, str]]) -> Any:  # noqa: ANN401 - pyarrow is untyped
    """A schema whose columns carry their description."""
    return pa.schema(
        [
            pa.field(name, kind, nullable=False, metadata={"description": description})
            for name, (kind, description) in fields.items()
        ]
    )


def _list_of(kind: Any) -> Any:  # noqa: ANN401 - pyarrow is untyped
    return pa.list_(pa.field("item", kind, nullable=False))


_FLOATS = _list_of(pa.float32())
_BOOLS = _list_of(pa.bool_())
_WORDS = _list_of(pa.uint32())
_SHORTS = _list_of(pa.int16())

MANIFEST = _schema(
    {
        "clip_id": (pa.string(), "Source as listed, with start and end in ms where they are cut."),
        "speaker_id": (pa.string(), "Who speaks."),
        "split": (pa.string(), "Split pinned by the list; empty: build_dataset decides."),
        "language": (pa.string(), "As listed."),
        "licence": (pa.string(), "As listed, else as the site says."),
        "tags": (pa.string(), "As listed."),
        "av_offset_ms": (pa.float32(), "How late the sound is, as listed; NaN: not listed."),
        "sha256": (pa.string(), "Digest of the clip's media, its name in the media store."),
        "bytes": (pa.int64(), "Size of the clip's media."),
    }
)

PROVENANCE = _schema(
    {
        "clip_id": (pa.string(), "As in the manifest."),
        "source_sha256": (pa.string(), "Digest of what was fetched, before any cut."),
        "source_bytes": (pa.int64(), "Its size."),
        "url": (pa.string(), "Where it was asked for, without password."),
        "final_url": (pa.string(), "After redirects, without password and query."),
        "title": (pa.string(), "As the site gives it."),
        "uploader": (pa.string(), "As the site gives it."),
        "licence": (pa.string(), "As the site gives it."),
        "fetched": (pa.string(), "When, ISO 8601 in UTC."),
        "tool": (pa.string(), "What fetched it, with its version."),
        "etag": (pa.string(), "ETag of the answer."),
        "modified": (pa.string(), "Last-Modified of the answer, or time of the file."),
        "content_type": (pa.string(), "Content-Type of the answer."),
    }
)

LANDMARK_SCORES = {
    "frames": "Length at 25 Hz.",
    "source_fps_hz": "Mean rate of the source's frames.",
    "tracked_ratio": "Share of looked-at frames in which the face was found.",
    "interpolated_ratio": "Share of ticks at which the face was lost and is interpolated.",
    "longest_gap_frames": "Longest run of interpolated ticks.",
    "mean_confidence": "Mean detector score over the ticks with the face.",
    "faces_ratio": "Share of checked frames that show another face at least half as wide.",
    "max_faces": "Most faces found in one checked frame, of any size.",
    "rival_mouth_energy": "Mouth energy of the next widest face over that of the followed one.",
    "interocular_px": "Median distance between the outer eye corners.",
    "blur": "Median variance of the Laplacian over the face, brought to 112 x 112 px of 8 bits.",
    "yaw_p95_deg": "95th percentile of |yaw|.",
    "pitch_p95_deg": "95th percentile of |pitch|.",
    "roll_p95_deg": "95th percentile of |roll|.",
    "jitter": "Noise of rigid points while the head is still, in inter-ocular distances (RMS).",
    "mouth_energy": "Standard deviation of the mouth opening, in inter-ocular distances.",
    "mouth_texture": "Detail of the picture at the mouth over that at the eyes; low: covered.",
    "frozen_ratio": "Share of looked-at frames that repeat the one before.",
    "shots": "Number of shots.",
    "max_jump": "Largest move of the face's centre within a shot, in inter-ocular distances.",
    "interlaced_ratio": "Share of looked-at frames that were interlaced.",
}

LANDMARKS = _schema(
    {
        "clip_id": (pa.string(), "As in the manifest."),
        "sha256": (pa.string(), "Digest of the media they were extracted from."),
        "content": (pa.string(), "Digest of this row's other columns."),
        "landmarks_TPD": (
            _FLOATS,
            "iBUG-68 points in px of the upright picture of square pixels; T x 68 x 2.",
        ),
        "confidence_T": (_FLOATS, "Detector score in [0, 1]; 0 where no face was found; T."),
        "interpolated_T": (_BOOLS, "True where the face was lost and is interpolated; T."),
        "pose_TA": (_FLOATS, "Yaw, pitch, roll in degrees; T x 3."),
        "mouth_T": (_FLOATS, "Mouth opening in inter-ocular distances; T."),
        "move_T": (_FLOATS, "Move of the face's centre since the tick before, likewise; T."),
        "shot_T": (_SHORTS, "Number of the shot, from 0; T."),
    }
    | {name: (pa.float32(), text) for name, text in LANDMARK_SCORES.items()}
)

AUDIO_SCORES = {
    "frames": "Length at 25 Hz.",
    "audio_start_s": "When the sound begins, after the picture; negative: before it.",
    "audio_end_s": "When the sound ends, after the picture's start.",
    "length_mismatch_s": "Sound that is missing under the picture or reaches beyond it.",
    "loudness_db": "RMS level relative to full scale, before normalisation.",
    "clipped_ratio": "Share of samples at full scale.",
    "speech_ratio": "Share of rows with speech.",
    "snr_db": "Level of the rows with speech over that of the others.",
    "audio_tracks": "Number of audio streams.",
}

AUDIO = _schema(
    {
        "clip_id": (pa.string(), "As in the manifest."),
        "sha256": (pa.string(), "Digest of the media they were extracted from."),
        "content": (pa.string(), "Digest of this row's other columns."),
        "log_mel_AM": (_FLOATS, "Natural log of mel energies, floor log(1e-8); 4 T x bands."),
        "mfcc_AC": (_FLOATS, "Liftered MFCC, the first is log energy; 4 T x coefficients."),
        "wide_mel_AM": (
            _FLOATS,
            "Natural log of the wide mel set, empty without one; 4 T x bands.",
        ),
        "loudness_A": (_FLOATS, "RMS level of each row relative to full scale, in dB; 4 T."),
        "speech_A": (_FLOATS, "Probability of speech; 4 T."),
    }
    | {name: (pa.float32(), text) for name, text in AUDIO_SCORES.items()}
)

DATASET_SCORES = {
    "usable_frames": "Longest stretch of one shot without a long gap or a jump.",
    "usable_start_frames": "Where it begins.",
    "mouth_loudness_correlation": "Correlation of mouth opening and loudness at the best lag.",
    "mouth_loudness_lag_s": "That lag; positive: the sound is late.",
    "av_offset_ms": "When the sound comes after the mouth, by its whole shape; NaN: not told.",
    "av_confidence": "How sure that is, in [0, 1).",
    "av_drift_ms_per_s": "How it grows along the clip; NaN: too short to tell.",
    "av_listed_ms": "When the sound comes after the mouth, as listed; NaN: not listed.",
    "av_shift_rows": "Rows by which the sound is taken later than it lies, to make up for it.",
}

CLIPS = _schema(
    {
        "clip_id": (pa.string(), "As in the manifest."),
        "speaker_id": (pa.string(), "Who speaks; no speaker is in two splits."),
        "split": (pa.string(), "train, val or test."),
        "language": (pa.string(), "As listed."),
        "licence": (pa.string(), "As listed."),
        "sha256": (pa.string(), "Digest of the clip's media."),
        "first_frame": (pa.int32(), "25 Hz tick of the media at which it begins."),
        "frames": (pa.int32(), "Length T at 25 Hz."),
        "audio_shift_rows": (pa.int32(), "Frame k goes with audio row 4 k + this."),
        "crop_left_px": (pa.float32(), "Left edge of the fixed square crop, in source pixels."),
        "crop_top_px": (pa.float32(), "Its top edge."),
        "crop_side_px": (pa.float32(), "Its side."),
        "landmarks_part": (pa.string(), "Landmark part that holds the clip."),
        "landmarks_content": (pa.string(), "Digest of its row there."),
        "audio_part": (pa.string(), "Audio part that holds the clip."),
        "audio_content": (pa.string(), "Digest of its row there."),
    }
)

EVIDENCE = _schema(
    {
        "clip_id": (pa.string(), "As in the manifest."),
        "content": (pa.string(), "Digest of the rows of both parts that were measured."),
        "frames": (pa.int32(), "Length of the clip."),
        "shot_frames": (pa.int32(), "Longest shot."),
        "steady_frames": (pa.int32(), "Longest stretch of it without a jump."),
        "followed_frames": (pa.int32(), "The same without a long gap."),
        "usable_frames": (pa.int32(), "The same with sound."),
        "first_frame": (pa.int32(), "Where that one begins."),
        "crop_left_px": (pa.float32(), "The square around the face in it: left edge."),
        "crop_top_px": (pa.float32(), "Its top edge."),
        "crop_side_px": (pa.float32(), "Its side; 0 where there is no stretch."),
        "mouth_loudness_correlation": (pa.float32(), "As in the decisions."),
        "mouth_loudness_lag_s": (pa.float32(), "As in the decisions."),
        "av_offset_ms": (pa.float32(), "As in the decisions."),
        "av_confidence": (pa.float32(), "As in the decisions."),
        "av_drift_ms_per_s": (pa.float32(), "As in the decisions."),
        "sound_words_T": (_WORDS, "Fingerprint of the sound; 0: none."),
        "motion_words_T": (_WORDS, "Fingerprint of the movement; 0: none."),
    }
)


VERSION = _schema(
    {
        "clip_id": (pa.string(), "As in the manifest."),
        "speaker_id": (pa.string(), "Who speaks."),
        "split": (pa.string(), "train, val or test; empty where the clip is left out."),
        "reason": (pa.string(), "Why it is left out; empty where it is kept."),
        "detail": (pa.string(), "One sentence about that."),
        "frames": (pa.int32(), "Length that is used; 0 where it is left out."),
        "content": (pa.string(), "Digest of what a model sees of it; empty where left out."),
    }
)

COMPARED = _schema(
    {
        "content": (pa.string(), "Digest of the clip's rows, as in the evidence."),
        "others": (_list_of(pa.string()), "Digests of later clips with footage in common."),
        "kinds": (_list_of(pa.string()), "For each: audio or motion."),
        "overlaps_s": (_list_of(pa.float64()), "For each: how long the common stretch is."),
        "similarities": (_list_of(pa.float64()), "For each: share of bits that agree."),
    }
)


def write(
    path: Path,
    rows: Iterable[Row],
    schema: Any,  # noqa: ANN401 - pyarrow is untyped
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write rows to a Parquet file, zstd, floats split by byte; never seen half written.

    Args:
        path: File to write; its folder is created.
        rows: One dictionary per row; taken `GROUP_ROWS` at a time.
        schema: One of this module's.
        metadata: Text to store with the schema.
    """
    stored = schema.with_metadata(dict(metadata)) if metadata else schema
    floats = [
        name if field.type != _FLOATS else f"{name}.list.element"
        for name, field in zip(schema.names, schema, strict=True)
        if field.type in (pa.float32(), pa.float64(), _FLOATS)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    remaining = iter(rows)
    with pq.ParquetWriter(
        temporary,
        stored,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT") or None,
    ) as writer:
        while group := list(islice(remaining, GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema=stored))
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file; never seen half written. Its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read(
    path: Path,
    schema: Any | None,  # noqa: ANN401 - pyarrow is untyped
    *,
    columns: Sequence[str] | None = None,
) -> list[Row]:
    """Read a Parquet file written by `write`; arrays come back as NumPy arrays.

    Args:
        path: File to read.
        schema: The columns it must have; None takes any.
        columns: Those to read; None reads all.

    Raises:
        InputError: If the file is missing, unreadable or has other columns.
    """
    return list(stream(path, schema, columns=columns))


def stream(
    path: Path,
    schema: Any | None,  # noqa: ANN401 - pyarrow is untyped
    *,
    columns: Sequence[str] | None = None,
) -> Iterator[Row]:
    """The rows of `read`, one after the other, with few of them in memory."""
    if not path.exists():
        raise InputError(f"{path} does not exist: the stage before this one writes it")
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow
            if schema is not None and not found.equals(schema):
                raise InputError(
                    f"{path} has columns {found.names}, expected {schema.names}: "
                    "run the stage that writes it again"
                )
            names = found.names if columns is None else list(columns)
            for batch in file.iter_batches(GROUP_ROWS, columns=names):
                for row in zip(*(_column(batch.column(name)) for name in names), strict=True):
                    yield dict(zip(names, row, strict=True))
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} cannot be read as Parquet ({error}). The stage before this one writes it."
        ) from error


def read_metadata(path: Path) -> dict[str, str]:
    """The text stored with a Parquet file's schema; empty when it is unreadable."""
    try:
        stored = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return {}
    return {key.decode(): value.decode() for key, value in stored.items()}


def _column(column: Any) -> list[Any]:  # noqa: ANN401 - pyarrow is untyped
    values: Any
    if pa.types.is_list(column.type):
        values = column.flatten().to_numpy(zero_copy_only=False)
        ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))
        return [values[start:end] for start, end in pairwise([0, *ends.tolist()])]
    values = column.to_pylist()
    return list(values)


def shaped(values: NDArray[Any], *shape: int, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """A stored flat array in its shape, writable."""
    return np.array(values, dtype=dtype).reshape(shape)


def row_digest(row: Row, schema: Any) -> str:  # noqa: ANN401 - pyarrow is untyped
    """SHA-256 over a row's columns but `content`, as they are stored."""
    total = hashlib.sha256()
    for field in schema:
        if field.name == "content":
            continue
        value = row[field.name]
        if pa.types.is_string(field.type):
            data = str(value).encode()
        else:
            kind = field.type.value_type if pa.types.is_list(field.type) else field.type
            data = np.asarray(value, kind.to_pandas_dtype()).tobytes()
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.hexdigest()


def digest(*parts: str | bytes | Iterable[str]) -> str:
    """SHA-256 over texts, bytes and lists of texts, each delimited by its length."""
    total = hashlib.sha256()
    for part in parts:
        pieces = [part] if isinstance(part, str | bytes) else list(part)
        for piece in pieces:
            data = piece.encode() if isinstance(piece, str) else piece
            total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()
