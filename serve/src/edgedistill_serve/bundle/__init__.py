"""The bundle: the folder with a student's graphs, tokenizer and manifest, which scoring reads."""
