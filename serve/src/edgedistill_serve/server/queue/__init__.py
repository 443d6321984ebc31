"""The queue between the event loop and the threads that score."""
