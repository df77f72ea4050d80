"""Spin models of the protocols in shared memory; ``python -m tests.models`` checks them."""
