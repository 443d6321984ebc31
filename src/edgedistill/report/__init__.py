"""The evaluation report: one HTML page for people who decide whether a model may be used.

inputs      the files of the run folder that the report reads
rules       the rules of the verdict and their thresholds
verdict     verdict(): may the model be used, for which labels, with how much human review?
findings    findings(): statements that qualify the verdict
sections    the tables on training, cost, consistency and misclassified responses, and the limitations
plots       figures as SVG
formatting  number formats
page        render_page(): the HTML
"""
