"""The evaluation of a student as one type: built once, written once, read by the report, the model card and the API."""
