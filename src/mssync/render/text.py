"""Lines of text on a picture, of any alphabet, in the font that OpenCV brings along."""

import unicodedata

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync.render.draw import Colour

LINE_PX = 21
_FONT_PX, _WEIGHT = 15, 450


def write_line(picture: NDArray[np.uint8], text: str, left: int, top: int, colour: Colour) -> None:
    """Write one line of `LINE_PX` height, whose upper left corner is given."""
    origin = (left, top + round(LINE_PX * 0.75))
    cv2.putText(picture, text, origin, colour, _font(), _FONT_PX, _WEIGHT)


def text_width(text: str) -> int:
    """Width of one line in pixels."""
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(), _FONT_PX, _WEIGHT)
    return int(width)


def wrapped(text: str, width_px: int, *, most: int) -> list[str]:
    """Text in lines that fit, broken at spaces where there are any.

    Args:
        text: Of any characters; what cannot be printed becomes a question mark.
        width_px: Room for a line.
        most: Number of lines after which it is cut off.
    """
    rest, lines = _printable(text), list[str]()
    while rest and len(lines) < most:
        length = _fitting(rest, width_px)
        if length < len(rest) and len(lines) == most - 1:
            lines.append(rest[: length - 1] + "…")
            break
        if length < len(rest) and " " in rest[:length]:
            length = rest.rindex(" ", 0, length) + 1
        lines.append(rest[:length].rstrip())
        rest = rest[length:]
    return lines


def _fitting(text: str, width_px: int) -> int:
    """How many characters of a text fit."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle]) <= width_px else (low, middle - 1)
    return low


def _printable(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    return "".join(letter if letter.isprintable() else "?" for letter in composed)


def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")
