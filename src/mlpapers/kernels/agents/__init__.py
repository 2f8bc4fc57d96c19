"""The four agents, each ``run(message) -> message``, and the messages between them."""
