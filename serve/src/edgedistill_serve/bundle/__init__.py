"""The bundle: the one folder that everything after training reads."""
