"""Studies: reproducible experiments on your own data about what makes a good student.

study_file.py   the study file: Study, read_study()
types.py        RunPlan, RunResult, ResultRow
inputs.py       read_task(), request_inputs(): rows by source, teacher labels, synthetic rows, the transfer set
designs/        the runs of each kind of study: label-source, ratio, temperature, consistency, teachers
runs.py         run(): one run; RunStore: finished runs, shared between processes
estimates.py    metrics of students and conditions with intervals; differences between conditions
tables.py       runs.csv and the summary tables
summary.py      medians over tasks, compared with Pangakis and Wolken (2024)
plots.py        SVG plots
registry.py     the requirements, runs, tables and plots of each kind of study
study.py        run_study(): all of it
"""

# run_study is imported from its module: it loads torch, which reading a study file does not need.
from edgedistill.studies.study_file import Kind, Study, read_study

__all__ = ["Kind", "Study", "read_study"]
