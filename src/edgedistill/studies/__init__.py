"""Studies: what decides how good a student becomes, asked of one's own data, as commands that anybody can rerun.

sections.py    the study file: Study, read_study()
types.py       Plan, Outcome, Line: what flows through a study
material.py    gather(): what a task offers, by source
teaching.py    what teachers make of its texts, asked or recorded
synthetic.py   synthetic rows, recorded or written
transfer.py    a second test set
texts.py       which texts count as one; where rows went
kinds/         what each kind of study runs: label-source, ratio, temperature, consistency, teachers
settings.py    how students are trained: corrected, or as published
running.py     run(): makes one run
journal.py     the runs that are done; several processes share them
resampling.py  figures on resampled rows and seeds
gains.py       one condition beside another, on what both have
figures.py     figures of one student, and of a condition over its seeds
sheets.py      tables
medians.py     medians over tasks, beside those of Pangakis and Wolken
plots.py       SVG
recipes.py     which of these a kind of study needs
study.py       make_study(): all of it
"""

# make_study is imported from its module: it loads torch, which reading a study file should not wait for.
from edgedistill.studies.study_file import Kind, Study, read_study

__all__ = ["Kind", "Study", "read_study"]
