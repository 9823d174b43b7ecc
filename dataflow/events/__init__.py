"""From the bytes of an event to a change of a page: one module per form of event."""
