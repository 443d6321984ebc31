"""Grading of table files: CSV, TSV, JSONL and Parquet."""
