"""Benchmarks as data: which protocols there are, what they measure, and how the results are told.

``protocol`` says what a protocol is, ``protocols`` lists them, ``rows`` the methods in them, ``constant`` a row that no
score may reward · ``forget_sets`` draws requests by memorisation and likeness · ``readings`` what is read of a cell beside
the audit · ``summary`` rows of cells to numbers with spread · ``tables`` Markdown, CSV and LaTeX · ``published`` the papers'
figures.
"""
