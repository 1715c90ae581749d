"""What blocking costs: `aiocmdpool.sync` beside `subprocess.run`, and beside the async pool that it stands on.

python -m benchmarks.facade
"""
