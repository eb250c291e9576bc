"""From a config to a finished run folder, resumable at any moment."""
