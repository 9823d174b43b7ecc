"""`audit` and `backfill`: the tables of pages and vectors as a whole."""
