"""HTTP: a pool for the requests that every page needs, and a client for the rest."""
