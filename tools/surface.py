"""Write down what is public, or compare it with what was: names, parameters, members, as griffe reads the source.

    python tools/surface.py            # what breaks since tests/data/surface.json was written; exit status 1 if so
    python tools/surface.py --write    # write it anew: on a release, and with a break that CHANGELOG.md tells

Nothing of the package is imported, and no git history is needed: a shallow clone will do.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import click
import griffe

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "tests" / "data" / "surface.json"
PACKAGES = ("bench", "measuring", "process", "scoring", "server", "testing", "training")
"""What is public beside `duplex` itself."""
FILE = "duplex.py"
"""Where everything public is said to stand: it is known by its name alone."""
KEPT = {"kind", "name", "members", "bases", "parameters", "returns", "annotation", "labels", "type_parameters"}
"""What a snapshot keeps of an object: not where it stands, what is said about it, nor how a constant is made."""


def main() -> int:
    """Print each break on a line of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="A folder with duplex/ in it.")
    given = parser.parse_args()
    surface = read_surface(given.source)
    if given.write:
        SNAPSHOT.write_text(json.dumps(surface, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    broken = breaks(json.loads(SNAPSHOT.read_text(encoding="utf-8")), surface)
    print("\n".join(broken) or "nothing that was public is gone")
    return 1 if broken else 0


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what a caller of the old surface would no longer find in the new one, a line each."""
    trees = [griffe.Module.from_json(json.dumps(_whole(surface))) for surface in (old, new)]
    found = griffe.find_breaking_changes(*trees)
    return [click.unstyle(one.explain(griffe.ExplanationStyle.ONE_LINE)).removeprefix(f"{FILE}:0: ") for one in found]


def _whole(described: dict[str, Any]) -> dict[str, Any]:
    """Return a description with the entries that griffe wants of every object, and a snapshot does not keep."""
    members = {name: _whole(member) for name, member in described["members"].items()}
    return {"lineno": None, "endlineno": None, "decorators": [], "value": None, **described, "members": members}


def read_surface(source: Path) -> dict[str, Any]:
    """Return the public names of a source tree as griffe's JSON: a module with a module for each package in it."""
    package = griffe.load("duplex", search_paths=[source], resolve_aliases=True, allow_inspection=False)
    surface = _module("duplex", _exported(package))
    for name in PACKAGES:
        surface["members"][name] = _module(name, _exported(package[name]))
    return surface


def _module(name: str, members: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "module", "name": name, "filepath": FILE, "members": members}


def _exported(module: griffe.Object) -> dict[str, Any]:
    own = [name for name, member in module.members.items() if _is_own(member)]
    names = module.exports or own  # a lazy package has its names in its stub alone
    return {str(name): _described(module[str(name)], str(name)) for name in names if not str(name).startswith("_")}


def _is_own(member: griffe.Object | griffe.Alias) -> bool:
    return isinstance(member, griffe.Alias) and member.target_path.startswith("duplex.")


def _described(exported: griffe.Object | griffe.Alias, name: str) -> dict[str, Any]:
    """Return an object under the name that it is exported by, with its public members, inherited ones too."""
    found = exported.final_target if isinstance(exported, griffe.Alias) else exported
    described = found.as_dict()
    if isinstance(found, griffe.Class):
        inherited = {member: alias.final_target for member, alias in found.inherited_members.items()}
        described["members"] = inherited | described.get("members", {})
    return {**_kept(json.loads(json.dumps(described, default=_plain))), "name": name}


def _plain(value: Any) -> Any:
    """Return what JSON can hold of what griffe describes an object with; expressions as they are written."""
    if isinstance(value, griffe.Object | griffe.Alias | griffe.Parameter | griffe.Decorator):
        return value.as_dict()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def _kept(described: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in described.items() if key in KEPT}
    members = kept.get("members", {})
    kept["members"] = {name: _kept(member) for name, member in members.items() if _is_public(name, member)}
    return kept


def _is_public(name: str, member: dict[str, Any]) -> bool:
    return member["kind"] != "alias" and (not name.startswith("_") or name == "__init__")


if __name__ == "__main__":
    sys.exit(main())
