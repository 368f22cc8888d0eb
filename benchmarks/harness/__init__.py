# SPDX-License-Identifier: MIT
"""What `benchmarks/run.py` is made of, and then `benchmarks/process.py`; both stand on `slabmalloc.bench`.

rows       what is measured, and the bar that it is held to
sides      who is measured: our programs, and the peers that this machine has
programs   the C programs, compiled
rounds     measurements in fresh processes, taken in turns
report     lines of tables, and the JSON file

tasks         what whole programs run, and the bars
instructions  one program under callgrind
tables        what they came to
"""
