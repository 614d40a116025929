"""What the scripts here have in common: cases, each in a world of its own that is removed afterwards.

    SCRIPT            all cases
    SCRIPT WORD ...   those whose name contains all words
    SCRIPT 1/2        every second one, from the first on; they wait more than they work, so two parts may run at a time
"""

import os
import sys
import time
import traceback

from lab import Lab

CASES = []


class TooOld(str):
    """Why a case says nothing: the peer, as it is packaged, cannot do it. That is no fault of a run, but no pass either."""


def case(function):
    """Has a function run as a case. It gets its world, and returns why it says nothing, if it does not."""
    CASES.append(function)
    return function


def expect(truth, what, *evidence):
    if not truth:
        raise AssertionError(f"{what}: {evidence}")


def main(world=Lab, **needed):
    """Runs the cases that the command line names, whatever happens to others, and ends with what came of them.

    No case says anything if one of the programs needed, by their names, is not here."""
    words = [word for word in sys.argv[1:] if "/" not in word]
    part, parts = next((map(int, word.split("/")) for word in sys.argv[1:] if "/" in word), (1, 1))
    missing = ", ".join(name for name, program in needed.items() if not program)
    passed, failed, skipped = 0, 0, 0
    for function in CASES[part - 1::parts]:
        if not all(word in function.__name__ for word in words):
            continue
        begun = time.monotonic()
        try:
            if missing:
                reason = f"not here: {missing}"
            else:
                with world() as lab:
                    reason = function(lab)
            if reason and os.environ.get("CI") and not isinstance(reason, TooOld):
                raise AssertionError(reason)
            if reason:
                skipped += 1
                print(f"skip {function.__name__}: {reason}", flush=True)
            else:
                passed += 1
                print(f"ok   {function.__name__} ({time.monotonic() - begun:.0f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {function.__name__}", flush=True)
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)
