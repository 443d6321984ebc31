"""What each kind of study runs: pure functions from a task's inputs to the plans of its runs.

drawing.py        RowSources, plan_run(): one plan, its rows drawn or what is missing for them
label_source.py   human codes beside teacher labels
ratio.py          human rows beside synthetic ones
temperature.py    synthetic rows written at several temperatures
consistency.py    less consistent labels are left out
teachers.py       the same students under different teachers
"""
