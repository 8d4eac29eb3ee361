"""The list of CelebV-HQ."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mssync.errors import InputError
from mssync.lists.importers.reading import PAGE, Clip
from mssync.lists.sources import source_of
from mssync.media.ffmpeg import Crop


def clips(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
    """`celebvhq_info.json` of CelebV-HQ; the file is held in memory.

    Boxes are shares of the picture. The file names no people, so each video is its own speaker.
    Actions and emotions become tags; appearance, which describes the person, and the times of
    changing emotions are left out.
    """
    expected = 'expected {"meta_info": ..., "clips": {...}}, as celebvhq_info.json has it'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): {expected}") from error
    named = content.get("clips") if isinstance(content, dict) else None
    if not isinstance(named, dict):
        raise InputError(f"{path} holds no clips: {expected}")
    actions = content.get("meta_info", {}).get("action_mapping", [])
    for name, clip in named.items():
        try:
            video, span, box = clip["ytb_id"], clip["duration"], clip["bbox"]
            left, top, right, bottom = (
                min(1.0, max(0.0, float(box[edge]))) for edge in ("left", "top", "right", "bottom")
            )
            source = source_of(
                PAGE + video,
                speaker_id=f"youtube-{video}",
                start_s=float(span["start_sec"]),
                end_s=float(span["end_sec"]),
                tags=_tags(clip.get("attributes", {}), actions),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}: clip {name} lacks a sound ytb_id, duration or bbox ({error!r}): "
                f"{expected}"
            ) from error
        if right <= left or bottom <= top:
            left_out["with a box outside the picture"] += 1
            continue
        crop = Crop(left, top, right, bottom)
        yield Clip(replace(source, crop=crop), (video, name))


def _tags(attributes: Mapping[str, Any], actions: list[str]) -> str:
    flags = attributes.get("action", [])
    tags = [action for action, holds in zip(actions, flags, strict=False) if holds]
    labels = attributes.get("emotion", {}).get("labels", [])
    if isinstance(labels, str):
        tags.append(labels)
    else:
        tags += dict.fromkeys(label["emotion"] for label in labels)
    return ",".join(tags)
