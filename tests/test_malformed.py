"""Damaged and hostile files: each is read, or refused in one sentence, at once. `malformed.py` makes them."""

import signal

from unclutter.tests.malformed import complaint, corpus

PART = 8
"""Every so many of the files are read here; `python -m unclutter.tests.malformed` reads all."""


def test_damaged_files_are_read_or_refused_in_one_sentence(tmp_path):
    signal.alarm(120)  # a file that hangs ends this run
    made, complaints = 0, []
    try:
        for made, case in enumerate(corpus(tmp_path), start=1):
            if made % PART == 0 and (text := complaint(case)):
                complaints.append(text)
    finally:
        signal.alarm(0)
    assert complaints == [] and made >= 500
