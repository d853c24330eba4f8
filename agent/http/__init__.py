"""The HTTP services: `anyloom serve`, OpenAI-compatible and typed."""
