"""The attack suite: damaged and hostile files, kills, signals, full disks and precious outputs, by the hundred.

`python -m tests.attack` runs all of it and writes docs/reliability.json; tests/test_attack.py runs a small part. Each
module says what it attacks and what must hold; whatever does not hold is listed by name.
"""
