"""Training loops: from the first step to the last."""
