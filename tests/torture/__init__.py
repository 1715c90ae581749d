"""The torture suite: hostile programs, ended in every way there is, and a count of what survives.

`python -m tests.torture` from the root of the repository runs it in full; `test_torture.py` is the short form.
"""
