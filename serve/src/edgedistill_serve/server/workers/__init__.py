"""A server of several processes: the supervisor, which starts them, and the workers, which answer requests."""
