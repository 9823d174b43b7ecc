"""From the window to the services: queues, sinks, acknowledgement, back-pressure."""
