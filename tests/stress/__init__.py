"""Kill storms through fastmp's public API: ``python -m tests.stress --minutes 5``.

`storm` kills, stops and replaces processes; a scenario (`channels`, `locks`, `waiting`, `services`)
says what they do and audits what they wrote down in their ledgers, which are plain files and so
survive any kill; `rounds` runs one scenario for a while and looks for what is left behind.
"""
