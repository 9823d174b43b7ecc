"""The terminal output and the options that commands share."""
