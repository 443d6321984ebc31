"""The queue between the event loop and the scoring threads."""
