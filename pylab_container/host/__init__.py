"""The operating system: system calls, files, other programs."""
