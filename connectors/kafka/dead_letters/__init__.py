"""Dead letters: their message, their producer and their log."""
