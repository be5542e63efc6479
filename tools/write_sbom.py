"""Write what a release is tested with as a bill of materials: CycloneDX, of the versions that constraints.txt pins.

python tools/write_sbom.py --out dist/sbom.cdx.json

The same bytes from the same commit. Needs cyclonedx-bom (the group `release`).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from check_release import own_version

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    options = ["--pyproject", "pyproject.toml", "--mc-type", "library", "--output-reproducible", "--of", "JSON"]
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "constraints.txt", *options]
    bill = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    name, version = "duplex-speech", own_version((ROOT / "src" / "duplex" / "__init__.py").read_text(encoding="utf-8"))
    bill["metadata"]["component"] |= {"version": version, "purl": f"pkg:pypi/{name}@{version}"}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{given.out}: {len(bill['components'])} packages")


if __name__ == "__main__":
    main()
