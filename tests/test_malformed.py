"""Damaged and hostile files: each is read, or refused in one sentence, at once. `malformed.py` makes them."""

import signal
from itertools import islice

from unclutter.tests.malformed import complaint, corpus

PART = 8
"""Every so many of the files are read here; `python -m unclutter.tests.malformed` reads all."""


def test_damaged_files_are_read_or_refused_in_one_sentence(tmp_path):
    signal.alarm(120)  # a file that hangs ends this run
    try:
        complaints = [text for case in islice(corpus(tmp_path), 0, None, PART) if (text := complaint(case))]
    finally:
        signal.alarm(0)
    assert complaints == []
