"""OpenAI's embedding API, and that of compatible servers."""
