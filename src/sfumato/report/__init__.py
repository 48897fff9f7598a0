"""Pages for people: one HTML file per case and one index per run, readable offline and equal byte for byte
when the input is equal.

Importing this package does not import matplotlib; drawing does.
"""
