"""Evaluation: how good detectors and vectors are, on data with known answers, through the job's own stages.

`truth`, `matching`, `precision`, `wider` judge detectors; `pairs`, `bin_file`, `scores` judge vectors, `embedding`
makes them, `figures`, `verifying` and `alignment` put it all together; `plots` and `sheet` show both to people.
Nothing here knows Ray.
"""
