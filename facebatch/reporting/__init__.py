"""A report on a dataset: what its tables add up to and what its runs have noted, as JSON and as one page of HTML.

tally      counters and histograms of the two tables, which are read record by record
figures    these as small tables, and which of them is drawn how
runs       the same of what runs have noted
plots      a table as a drawing
contact    a sample of the faces, read again from their sources
page       all of that as one file that loads nothing
"""
