"""Audio features on the clock of the video."""
