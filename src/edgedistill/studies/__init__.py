"""Studies: experiments on your own data about what makes a student good, as commands that anybody can rerun.

study_file.py   the study file: Study, read_study()
types.py        RunPlan, RunResult, ResultRow: what passes through a study
inputs.py       load_task_inputs(): a task's rows by source, teacher labels, synthetic rows, the transfer set
designs/        which runs each kind of study makes: label-source, ratio, temperature, consistency, teachers
runs.py         run(): one run; RunStore: finished runs, shared between processes
estimates.py    metrics of a student and of a condition over its seeds, with intervals; differences of conditions
tables.py       tables
summary.py      medians over tasks, beside those of Pangakis and Wolken
plots.py        SVG plots
registry.py     what each kind of study needs, runs and shows
study.py        run_study(): all of it
"""

# run_study is imported from its module, because it loads torch and reading a study file should not.
from edgedistill.studies.study_file import Kind, Study, read_study

__all__ = ["Kind", "Study", "read_study"]
