"""Near duplicates by datasketch in one process, as its documentation does it; runs in an environment of its own.

``python curate_datasketch.py TEXTS PERMUTATIONS THRESHOLD SHINGLE``: writes seconds and each text's group as JSON.
"""

from __future__ import annotations

import json
import re
import sys
import time


def main() -> None:
    """Find the groups."""
    from datasketch import MinHash, MinHashLSH

    path, permutations, threshold, shingle = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    began = time.perf_counter()
    index = MinHashLSH(threshold=threshold, num_perm=permutations)
    sketches, groups = [], []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file):
            words = re.findall(r"\w+", json.loads(line)["text"].lower())
            count = max(len(words) - shingle + 1, 1)
            shingles = {" ".join(words[place : place + shingle]).encode() for place in range(count)}
            sketch = MinHash(num_perm=permutations)
            sketch.update_batch(shingles)
            sketches.append(sketch)
            groups.append(number)
            for other in index.query(sketch):
                if sketch.jaccard(sketches[other]) >= threshold:
                    _join(groups, number, other)
            index.insert(number, sketch)
    found = [_root(groups, number) for number in range(len(groups))]
    json.dump({"seconds": time.perf_counter() - began, "groups": found}, sys.stdout)


def _join(groups: list[int], one: int, other: int) -> None:
    first, second = _root(groups, one), _root(groups, other)
    groups[max(first, second)] = min(first, second)


def _root(groups: list[int], one: int) -> int:
    while groups[one] != one:
        groups[one] = groups[groups[one]]
        one = groups[one]
    return one


if __name__ == "__main__":
    main()
