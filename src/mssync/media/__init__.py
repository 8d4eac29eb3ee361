"""The outside world, one adapter per tool: httpx, ffmpeg, PyAV and the media store."""
