# SPDX-License-Identifier: MIT
"""What `benchmarks/run.py` is made of, and then `benchmarks/process.py`.

rows       what is measured, and the bar that it is held to
sides      who is measured: our programs, and the peers that this machine has
programs   the C programs, compiled
rounds     measurements in fresh processes, taken in turns; medians of ratios taken within a round
report     the table, the machine, the JSON file

commands      who is measured when whole programs run: interpreters on one allocator or the other
tasks         what they run, and the bars
children      one program in a fresh process
instructions  one program under callgrind
comparison    tasks measured in turns; ratios, means and tables
"""
