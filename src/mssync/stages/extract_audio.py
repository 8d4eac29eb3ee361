"""Stage 3: manifest -> audio-feature parts and decisions with scores."""

from functools import partial
from pathlib import Path

from mssync import records
from mssync.audio.activity import speech_probability
from mssync.audio.features import features
from mssync.audio.levels import clipped_ratio, loudness_db, row_levels_db, snr_db
from mssync.media import decode
from mssync.media.sound import read_sound
from mssync.media.store import MediaStore
from mssync.params import ExtractAudio
from mssync.records import AUDIO_SCORES, Row
from mssync.stages._extract import Extraction, apart, extract

VERSION = 3  # raise when the same media would give other features


def run(
    manifest: Path,
    out: Path,
    ledger: Path,
    params: ExtractAudio,
    *,
    store: MediaStore,
    workers: int,
    whole: bool = True,
) -> dict[str, float]:
    """Compute audio features, loudness and speech of every clip, four rows a video frame.

    Args:
        manifest: As `download_videos` writes it.
        out: Folder of parts (`records.AUDIO`); what is there and still applies is kept.
        ledger: Folder for the stage's decisions and attempts.
        params: The stage's section.
        store: Where the media are.
        workers: Clips at a time.
        whole: False for a shard of a list: whether enough of its clips survive is decided over
            all shards (`mssync.shards.gather`).

    Returns:
        Clips kept and rejected.

    Raises:
        InputError: If the manifest is missing.
        StageFailedError: If too few clips have sound.
    """
    extraction = Extraction(
        name="extract_audio",
        one=apart(partial(listen, params=params), params),
        schema=records.AUDIO,
        scores=list(AUDIO_SCORES),
        version=VERSION,
        params=params,
    )
    return extract(extraction, manifest, out, ledger, store=store, workers=workers, whole=whole)


def listen(media: Path, *, params: ExtractAudio) -> Row:
    """Features of one video's sound: the columns of `records.AUDIO` but what names the clip.

    Rows in which there is no sound, because it begins late or ends early, are silence.

    Raises:
        ClipRejectedError: `no_audio`, or why the video cannot be read.
    """
    clock = decode.read_clock(media)
    sound = read_sound(media, clock)
    found = features(
        sound.waveform_N,
        pre_emphasis=params.pre_emphasis,
        mel_bands=params.mel_bands,
        mfcc=params.mfcc,
        wide_mel_bands=params.wide_mel_bands,
    )
    level_A = row_levels_db(sound.waveform_N)
    speech_A = speech_probability(sound.waveform_N)
    return {
        "log_mel_AM": found.log_mel_AM.ravel(),
        "mfcc_AC": found.mfcc_AC.ravel(),
        "wide_mel_AM": found.wide_mel_AM.ravel(),
        "loudness_A": level_A,
        "speech_A": speech_A,
        "frames": float(clock.frames),
        "audio_start_s": sound.start_s,
        "audio_end_s": sound.end_s,
        "length_mismatch_s": max(abs(sound.start_s), abs(sound.end_s - clock.duration_s)),
        "loudness_db": loudness_db(sound.waveform_N),
        "clipped_ratio": clipped_ratio(sound.waveform_N),
        "speech_ratio": float((speech_A >= params.speech_threshold).mean()),
        "snr_db": snr_db(level_A, speech_A, threshold=params.speech_threshold),
        "audio_tracks": float(sound.tracks),
    }
