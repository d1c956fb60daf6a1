"""Images: import, commit, configuration, archives. Core."""
