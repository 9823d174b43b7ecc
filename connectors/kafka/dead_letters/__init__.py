"""Dead letters on their topic: the message and its producer."""
