"""How far raters agree beyond chance: the kappas of Cohen and of Fleiss. Imports no PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa (1960) of two raters, from what each said of the same things.

    Returns:
        (p - e) / (1 - e), with p the share on which they agree, and e the share on which they would if each kept to its own
        shares by chance. None without pairs, and where both say the same of everything, which no kappa can judge.
    """
    if not pairs:
        return None
    count = len(pairs)
    agree = sum(first == second for first, second in pairs) / count
    firsts, seconds = (Counter(each) for each in zip(*pairs, strict=True))
    chance = sum(firsts[said] * seconds[said] for said in firsts) / count**2
    return None if chance == 1 else (agree - chance) / (1 - chance)


def fleiss_kappa(ratings: Sequence[Sequence[Hashable]]) -> float | None:
    """Fleiss' kappa (1971) of any number of raters, from all that was said of each thing.

    Things that fewer than two rated are left out. Where their numbers differ, each thing counts with the share of pairs of
    its own raters that agree, as Fleiss has it for equal numbers.

    Returns:
        None without things that two rated, and where all say the same of everything.
    """
    rated = [each for each in ratings if len(each) > 1]
    if not rated:
        return None
    shares = []
    for each in rated:
        pairs = len(each) * (len(each) - 1)
        shares.append(sum(times * (times - 1) for times in Counter(each).values()) / pairs)
    said = Counter(one for each in rated for one in each)
    total = sum(said.values())
    chance = sum((times / total) ** 2 for times in said.values())
    return None if chance == 1 else (sum(shares) / len(shares) - chance) / (1 - chance)
