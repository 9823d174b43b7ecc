"""The values, errors and bookkeeping that everything else shares."""
