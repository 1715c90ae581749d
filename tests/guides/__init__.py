"""Every Python block of every guide, and every `>>>` example of a docstring, is run here.

    documents.py    finds the guides and docstrings and takes their blocks out of them
    reading.py      runs the blocks of one document in order, on one loop, in one namespace
    given.py        what blocks use and do not define: `backend`, `pool`, `url`, ...
    programs/       stand-ins for the programs that the guides run and a machine may lack

A guide is read from top to bottom: what a block defines is there for those below it, and so are the public names of
`aiocmdpool`. A block may await at its top level. Two comments, which a page does not show, say more:

    <!-- invisible-code: python          before or after a block: code that prepares it, or uses what it has defined
    urls = ["http://example.org/"]
    -->

    <!-- only compiled: needs a running gunicorn; tests/servers has one -->     on the line above a block
"""
