"""The report: what an evaluation found, for people who decide whether the model may be used.

evaluation.py    Evaluation, Gate: what the run folder's JSON files hold
material.py      Material: everything that a report is made from
reading.py       read_material(): from a run folder to it
rules.py         the rules of the verdict
verdict.py       verdict(): may the model be used?
remarks.py       the sentences beside it
accounts.py      training, cost, consistency, examples, limits: what the sections tell
plots.py         figures as SVG
svg.py           SVG that may stand in the page
numbers.py       how figures are written
page.py          page(): the HTML
"""
