"""Words for some of several people: "2, 3", "1-3", "all but 1", "none"; nothing here needs tensors."""

from __future__ import annotations

import re

WORDS = {"order": "", "remove": ", or all, all but 1, or none", "keep": ", or any, all, all but 1, or none"}
"""Words that a setting takes beside numbers."""


def parse_people(text: str, count: int, name: str) -> list[int]:
    """Indices from 0 of "2, 3", "1-3", "all", "all but 1" or "none", of `count` people; `name` is the setting, for messages.

    Raises:
        ValueError: it is something else, or names somebody who is not there.
    """
    words = text.strip().lower()
    if words in ("", "none"):
        return []
    if words == "all":
        return list(range(count))
    but = re.match(r"all\s+but\b", words)
    found = {number - 1 for number in parse_numbers(words[but.end() :] if but else words, name, text)}
    if wrong := [index + 1 for index in sorted(found) if not 0 <= index < count]:
        wanted = f"numbers from 1 to {count}" if count > 1 else "1"
        raise ValueError(
            f"{name} names person {wrong[0]} and the masks mark {counted(count, 'person', 'people')}: give {wanted}."
        )
    return [index for index in range(count) if (index in found) != bool(but)]


def parse_order(text: str, count: int) -> tuple[int, ...]:
    """Indices from 0 of "3, 1, 2", everyone from back to front.

    Raises:
        ValueError: it does not name each of `count` people once.
    """
    sequence = [number - 1 for number in parse_numbers(text, "order", text)]
    if sorted(sequence) != list(range(count)):
        wanted = f"give each of 1 to {count} once, back to front" if count > 1 else "leave it empty"
        raise ValueError(f"order is {text!r} and the masks mark {counted(count, 'person', 'people')}: {wanted}.")
    return tuple(sequence)


def parse_numbers(text: str, name: str, typed: str) -> list[int]:
    """The whole numbers of "2, 3", "1-3" or "3-1", in their order; `typed` is what it is a part of."""
    found: list[int] = []
    for word in re.split(r"[\s,;]+", re.sub(r"\s*-\s*", "-", text.strip(" ,;"))):
        if not (match := re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", word)):
            raise ValueError(f"{name} is {typed!r}: write numbers such as 2, 3 or 1-3{WORDS[name]}.")
        first, last = int(match[1]), int(match[2] or match[1])
        step = 1 if first <= last else -1
        found += range(first, last + step, step)
    return found


def counted(number: int, one: str, several: str) -> str:
    """ "1 person" or "2 people"."""
    return f"{number} {one if number == 1 else several}"
