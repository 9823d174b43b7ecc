"""A fake Stargate: REST v2, GraphQL, authentication and tables."""
