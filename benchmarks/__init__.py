"""Speed against torch, memory, scaling, and differences from torch and Captum, as stored rows.

`measure` runs the suites, `contenders` are who takes part, `show` writes tables of the rows, and
`parity` keeps rows that say whether the numbers are right.
"""
