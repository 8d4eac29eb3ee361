"""Parameters of the stages that make a dataset of footage."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mssync.params.section import Count, Positive, Ratio, Section


class HostLimits(Section):
    """How hard one host may be asked."""

    requests_per_s: Positive = Field(description="Mean rate of requests.")
    burst: Count = Field(description="Requests that may go out at once after a rest.")
    connections: Count = Field(description="Downloads at a time.")


class DownloadVideos(Section):
    """Fetching the listed sources into the media store and cutting them."""

    attempts: Count = Field(description="Tries per source; only passing failures are tried again.")
    backoff_s: Positive = Field(description="Wait before the second try; doubles with each.")
    max_wait_s: Positive = Field(
        description="Longest wait for a host; one that asks for more is left for a later run."
    )
    timeout_s: Positive = Field(description="Longest silence of a server.")
    min_bytes_per_s: float = Field(ge=0, description="Slowest mean rate over `timeout_s`.")
    max_redirects: int = Field(ge=0, description="Most redirects of one request.")
    connections: Count = Field(description="Downloads at a time, over all hosts.")
    per_host: HostLimits = Field(description="How hard any host may be asked.")
    hosts: dict[str, HostLimits] = Field(
        description="Other limits, by host (`example.org`) or web video site (`youtube`)."
    )
    breaker_failures: Count = Field(
        description="Refusals of a host in a row (bot check, 429, 403, no answer) that pause it."
    )
    breaker_pause_s: Positive = Field(description="First pause; doubles with each.")
    breaker_pauses: int = Field(
        ge=0, description="Pauses in a row after which a host is left for a later run."
    )
    site_format: str = Field(min_length=1, description="yt-dlp's format selector.")
    honour_opt_out: bool = Field(description="Leave out what asks not to be trained on.")
    revalidate: bool = Field(description="Ask for finished items again: have they changed?")
    max_bytes: Count = Field(description="Largest source that is fetched.")
    max_duration_s: Positive = Field(description="Longest clip that is kept.")
    max_pixels: Count = Field(description="Largest picture, width times height.")
    probe_s: Positive = Field(description="Most seconds that probing a file may take.")
    probe_bytes: int = Field(
        ge=500_000_000,
        description="Most address space of a process that probes or cuts; 4K takes 1.5 GB.",
    )
    min_free_bytes: int = Field(ge=0, description="Disk space that is left free.")
    run_bytes: int = Field(ge=0, description="Most bytes a run fetches; 0: no limit.")
    run_media_s: float = Field(
        ge=0, description="Most seconds of media a run fetches; 0: no limit."
    )
    min_success_ratio: Ratio = Field(description="Below this share of usable sources: stage fails.")


class Extraction(Section):
    """Limits of a process that reads clips, and what it writes at a time."""

    process_bytes: int = Field(
        ge=2_000_000_000, description="Most address space of a worker process."
    )
    max_s_per_s: Positive = Field(
        description="Most seconds a clip may take for a second of it, after the first minute."
    )
    clips_per_part: Count = Field(description="Rows of one parquet part.")


class ExtractLandmarks(Extraction):
    """Finding the face and following its 68 landmarks."""

    backend: Literal["mediapipe", "face_alignment", "dlib"] = Field(
        description="Landmark detector."
    )
    detection_confidence: Ratio = Field(description="Least score at which a face is taken up.")
    tracking_confidence: Ratio = Field(description="Least score at which a face is followed.")
    detect_every_frames: Count = Field(description="Frames between two searches for faces.")
    max_faces: Count = Field(description="Most faces followed at a time; the widest of them wins.")
    shot_threshold: Positive = Field(
        description="Change of hue, saturation and brightness, each of 255, that begins a shot."
    )
    max_source_fps_hz: Positive = Field(
        description="Above this rate faces are found only on the frames nearest to the 25 Hz ticks."
    )
    max_side_px: int = Field(ge=128, description="Larger pictures are made smaller first.")
    fan_batch: Count = Field(description="face_alignment: faces in one pass of the network.")
    fan_subpixel: bool = Field(
        description="face_alignment: points between the cells of the heat map, not in quarters."
    )
    fan_flip: bool = Field(description="face_alignment: look at the mirrored face too.")
    fan_bfloat16: bool = Field(description="face_alignment: half precision, on CUDA only.")
    max_pixels: Count = Field(description="Largest picture that is decoded, width times height.")
    min_success_ratio: Ratio = Field(description="Below this share of tracked clips: stage fails.")


class ExtractAudio(Extraction):
    """Log mel energies and MFCC, four rows a frame (docs/ms-sync.md, section 1)."""

    pre_emphasis: Ratio = Field(description="Coefficient of x[n] - a x[n - 1].")
    mel_bands: Count = Field(description="Mel bands between 0 and 8 kHz.")
    mfcc: Count = Field(description="Cepstral coefficients, the first replaced by log energy.")
    wide_mel_bands: int = Field(
        ge=0, le=128, description="Bands of a second, wider mel set beside them; 0: none."
    )
    speech_threshold: Ratio = Field(description="Probability at which a row counts as speech.")
    min_success_ratio: Ratio = Field(description="Below this share of clips with sound: fails.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mfcc > self.mel_bands:
            raise ValueError(f"mfcc ({self.mfcc}) cannot exceed mel_bands ({self.mel_bands})")
        return self


class BuildDataset(Section):
    """Joining, filtering, normalising and splitting. Every threshold that only decides is here."""

    min_frames: int = Field(ge=20, description="Shortest stretch of a clip kept, at 25 Hz.")
    max_jump: Positive = Field(
        description="Move of the face between ticks that ends a stretch, in inter-ocular distances."
    )
    max_gap_frames: int = Field(
        ge=0, description="Most interpolated ticks in a row; more end a stretch."
    )
    max_length_mismatch_s: float = Field(
        ge=0, description="Most sound that may be missing at an end; more is cut off."
    )
    min_tracked_ratio: Ratio = Field(description="Least share of frames in which a face was found.")
    min_source_fps_hz: float = Field(ge=0, description="Lowest rate of the source's frames.")
    min_confidence: Ratio = Field(description="Least mean confidence of the face track.")
    min_interocular_px: float = Field(ge=0, description="Smallest face, outer eye corners apart.")
    max_faces_ratio: Ratio = Field(description="Largest share of frames that show a second face.")
    max_yaw_deg: float = Field(ge=0, le=180, description="Largest turn, 95th percentile.")
    min_blur: float = Field(ge=0, description="Least detail of the face (records.LANDMARK_SCORES).")
    max_jitter: Positive = Field(
        description="Most noise of a still head's points, RMS, in inter-ocular distances."
    )
    min_mouth_texture: float = Field(
        ge=0, description="Least detail of the mouth's picture over that of the eyes."
    )
    max_frozen_ratio: Ratio = Field(
        description="Largest share of frames that repeat the one before."
    )
    min_mouth_energy: float = Field(
        ge=0, description="Least spread of the mouth's opening, in inter-ocular distances."
    )
    min_loudness_db: float = Field(le=0, description="Least RMS level, relative to full scale.")
    min_speech_ratio: Ratio = Field(description="Least share of the sound that is speech.")
    min_snr_db: float = Field(
        ge=-100, description="Least level of speech over the rest; -100 switches it off."
    )
    max_clipped_ratio: Ratio = Field(description="Largest share of samples at full scale.")
    min_mouth_loudness_correlation: float = Field(
        ge=-1, le=1, description="Least correlation of mouth and sound; -1 switches it off."
    )
    min_av_confidence: Ratio = Field(
        description="Confidence from which an offset of the sound is believed."
    )
    max_av_offset_ms: float = Field(
        ge=0, description="Largest offset of the sound that is believed; 640 switches it off."
    )
    max_av_drift_ms_per_s: float = Field(
        gt=0, description="Largest drift of the sound that is believed."
    )
    correct_av_offset: bool = Field(
        description="Shift the sound by an offset that is believed, to the nearest 10 ms."
    )
    smoothing_frames: int = Field(ge=1, description="Odd width of the centred mean over time.")
    crop_scale: float = Field(gt=1, description="Side of the crop over the track's extent.")
    salt: str = Field(description="Hashed with a speaker's name to draw their split.")
    val_ratio: Ratio = Field(description="Share of speakers for validation.")
    test_ratio: Ratio = Field(description="Share of speakers for the final test.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.smoothing_frames % 2 == 0:
            raise ValueError(f"smoothing_frames must be odd, found {self.smoothing_frames}")
        if self.val_ratio + self.test_ratio >= 1:
            raise ValueError("val_ratio + test_ratio must leave speakers to train on")
        return self
