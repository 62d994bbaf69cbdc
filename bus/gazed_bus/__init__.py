"""The ZeroMQ backbone: messages, broker, recorder lane, and the client `Remote`."""
