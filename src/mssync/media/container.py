"""Which media are opened at all, and how: what PyAV is told before it reads a stranger's file."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import av

from mssync.errors import ClipRejectedError

# As libavformat names them. None of these leads to other files or hosts, as playlists (hls, dash,
# concat, sdp, image2) do; none is guessed from bytes that are no media, as MP3 is.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,gif,flv,asf,ogg,mxf,ivf,wav,"
    "flac"
)
# Sound alone, of those who choose their own file.
SOUND_FORMATS = (
    f"{FORMATS},mp3,aac,loas,ac3,eac3,dts,aiff,amr,amrnb,amrwb,ape,au,caf,dsf,gsm,mpc,mpc8,oma,rm,"
    "sox,tak,tta,voc,w64,wv,xwma"
)


def opened(path: Path, limits: Mapping[str, str] | None = None) -> av.container.InputContainer:
    """Open a media file of one of the `FORMATS`.

    Args:
        path: The media.
        limits: More options of libavformat.

    Raises:
        ClipRejectedError: `corrupt` if it is none, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            # By descriptor, not by name: whatever a file says, no other one can be opened.
            options = dict(limits or {}) | {
                "fd": str(file.fileno()),
                "protocol_whitelist": "fd",
                "format_whitelist": FORMATS,
            }
            return av.open("fd:", mode="r", metadata_errors="ignore", options=options)
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ClipRejectedError("corrupt", f"not a readable media file: {reason}") from error


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first video stream that can be decoded; a cover picture is none.

    Raises:
        ClipRejectedError: `no_video`, or `corrupt` if its coding is not known.
    """
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not moving:
        raise ClipRejectedError("no_video", "there is no video stream")
    known = [stream for stream in moving if stream.codec_context is not None]
    if not known:
        raise ClipRejectedError("corrupt", "the coding of the video stream is not known")
    return known[0]


def packets(
    container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream
) -> Iterator[av.Packet]:
    """All packets of a stream; the last is empty, for the decoder to hand out what it holds.

    Raises:
        ClipRejectedError: `corrupt`.
    """
    try:
        yield from container.demux(stream)
    except MemoryError:
        raise
    except IndexError:
        return  # PyAV 18.1 ends so where streams were found after the file was opened
    except (av.FFmpegError, ValueError) as error:
        raise ClipRejectedError("corrupt", "the packets cannot be read") from error
