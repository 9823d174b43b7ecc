"""Reads the topic and sends changes to it, for the commands."""
