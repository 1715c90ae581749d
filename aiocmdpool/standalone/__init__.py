"""Programs that run in processes of their own, started as `python -I -S`, with the standard library only.

Nothing in this folder may import the rest of the package; the package may import from it.
"""
