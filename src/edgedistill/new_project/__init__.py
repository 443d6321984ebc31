"""A project for a table as people have it: an xlsx file, a CSV file of any kind, or an export of a tool.

exports.py            which tool wrote a table: Google Forms, Microsoft Forms, Moodle, Canvas, Qualtrics, Label Studio
proposal.py           what each column is for
label_counts.py       the labels: spellings that are one, their order, what looks wrong
label_studio_rows.py  an export of Label Studio as one row for each task
writing.py            the project folder
"""

from edgedistill.new_project.writing import NewProject, NewProjectOptions, project_from_table

__all__ = ["NewProject", "NewProjectOptions", "project_from_table"]
