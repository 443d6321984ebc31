"""The runs of each kind of study: pure functions from the inputs of a task to plans.

drawing.py        RowSources, plan_run(): one plan with its sampled rows
label_source.py   human codes versus teacher labels; one teacher versus another
ratio.py          human rows with shares of synthetic rows
temperature.py    synthetic rows generated at several temperatures
consistency.py    thresholds of label consistency
"""
