"""Windows of texts: the queue, the requests and their errors."""
