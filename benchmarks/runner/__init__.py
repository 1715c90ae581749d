"""The process in which one contender is measured once, so that heaps, loops and workers never mix.

It is told what to do by its command line and answers with one line of JSON. It knows nothing of rounds or ratios.
"""
