"""The operating system: system calls, files and other programs, one module for each."""
