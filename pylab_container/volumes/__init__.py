"""Volumes: their options, and the file systems that some of them mount. Core."""
