"""Every error has a code of its own, says what it means, and stands in the catalogue."""

from __future__ import annotations

import re
from collections import Counter

from scripts.docs_pages.errors import classes, given_codes

from tenuto.errors import TenutoError

CODE = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")


def test_codes_are_unique():
    counts = Counter(cls.code for cls in classes())
    assert {code: n for code, n in counts.items() if n > 1} == {}


def test_a_class_gives_itself_a_code():
    borrowed = [cls.__name__ for cls in classes() if "code" not in vars(cls)]
    assert not borrowed


def test_codes_are_a_family_and_a_reason():
    bad = [code for code in [*(cls.code for cls in classes()), *given_codes()] if not CODE.fullmatch(code)]
    assert not bad


def test_every_class_says_what_it_means():
    assert not [cls.__name__ for cls in classes() if not (cls.__doc__ or "").strip().endswith((".", "`"))]


def test_an_error_keeps_its_message_and_its_fields():
    for cls in classes():
        if cls.__init__ is TenutoError.__init__:
            error = cls("what happened", run="r1")
            assert (str(error), error.reason, error.details) == ("what happened", cls.code, {"run": "r1"})
