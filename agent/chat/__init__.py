"""The interactive terminal: `anyloom chat`."""
