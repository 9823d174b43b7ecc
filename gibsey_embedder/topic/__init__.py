"""How commands read the topic and send changes into it."""
