# SPDX-License-Identifier: MIT
"""What `benchmarks/run.py` is made of.

rows       what is measured, and the bar that it is held to
sides      who is measured: our programs, and the peers that this machine has
programs   the C programs, compiled
rounds     measurements in fresh processes, taken in turns; medians of ratios taken within a round
report     the table, the machine, the JSON file
"""
