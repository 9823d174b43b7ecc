"""The commands `audit` and `backfill`, which read whole tables."""
