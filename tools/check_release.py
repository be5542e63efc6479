"""Hold a release against its tag: one version everywhere, a changelog that tells it, and two artefacts of that version.

python tools/check_release.py v1.2.3 [--dist dist]
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Print what is wrong, a line each; return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tag")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    version = own_version((ROOT / "src" / "duplex" / "__init__.py").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    built = {path.name for path in given.dist.glob("duplex_speech-*")}
    wrong = list(faults(given.tag, version, changelog, built))
    print("\n".join(wrong) or f"{given.tag} can be released")
    return 1 if wrong else 0


def own_version(program: str) -> str:
    """Return the version that the package says it has, without importing it."""
    found = re.search(r'^__version__ = "([^"]+)"$', program, re.MULTILINE)
    return found[1] if found else ""


def faults(tag: str, version: str, changelog: str, built: set[str]) -> Iterator[str]:
    """Yield what keeps a tag from being released."""
    if tag != f"v{version}":
        yield f"the tag is {tag}, and duplex.__version__ is {version}: set one of them"
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        yield f"CHANGELOG.md has no section '## [{version}] - YEAR-MONTH-DAY': name [Unreleased] so"
    wanted = {f"duplex_speech-{version}-py3-none-any.whl", f"duplex_speech-{version}.tar.gz"}
    if built != wanted:
        yield f"dist/ has {sorted(built)}, not {sorted(wanted)}: run `make dist`"


if __name__ == "__main__":
    sys.exit(main())
