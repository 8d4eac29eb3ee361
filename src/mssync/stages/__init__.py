"""The pipeline, file by file: start reading here.

Files in, files out; one bad clip never stops a stage.
"""
