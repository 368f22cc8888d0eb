# SPDX-License-Identifier: MIT
"""What `run.py`, `process.py` and `services.py` of `benchmarks` are made of; all stand on `slabmalloc.bench`.

rows       what is measured, and the bar that it is held to
sides      who is measured: our programs, and the peers that this machine has
programs   the C programs, compiled
rounds     measurements in fresh processes, taken in turns
report     lines of tables, and the JSON file

tasks         what whole programs run, and the bars
instructions  one program under callgrind
tables        what they came to

service_runs    one service on one side: started, loaded, checked, ended
process_tree    all processes of a service, watched from outside
service_report  tables and figures of services
"""
