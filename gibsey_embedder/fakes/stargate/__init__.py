"""A fake Stargate: REST v2, GraphQL, tokens and its tables."""
