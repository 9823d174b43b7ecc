"""The commands `run` and `gather`, and the creation of the recovery store."""
