"""Stargate: REST, GraphQL and custom bulk writes over HTTP."""
