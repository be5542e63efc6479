"""Let the site read the source's docstrings, which use Sphinx's roles: ``:class:`Name``` becomes code."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":[a-z]+:`~?(?:[\w.]+\.)?(\w+)`")
LITERAL = re.compile(r"^::\n|::$", re.MULTILINE)


class Roles(Extension):
    """Rewrites every docstring as it is collected."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Replace roles by code, and the mark of a literal block by a colon or nothing."""
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = LITERAL.sub(lambda mark: "" if mark[0].endswith("\n") else ":", text)
