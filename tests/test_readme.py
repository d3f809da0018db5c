"""Everything that the documents show is run: their Python, their C, and their links."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
if not ROOT.joinpath("README.md").is_file():
    pytest.skip("needs a checkout", allow_module_level=True)


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def promised_output(code: str) -> list[str]:
    """What stands in a comment behind a call of print."""
    return re.findall(r"^print\(.*\)  # (.*)$", code, re.M)


def test_the_readme_begins_with_code() -> None:
    first = blocks(ROOT / "README.md", "python")[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if blocks(path, "python")], ids=lambda path: path.name
)
def test_python_blocks(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks of one document run after one another and print what they say they print."""
    code = "\n".join(blocks(path, "python"))
    exec(compile(code, path.name, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == promised_output(code)


def test_c_program(tmp_path: Path) -> None:
    """The C interface's example compiles with the command beside it, and prints what it says."""
    if not shutil.which("cc"):
        pytest.skip("cc is not installed")
    document = ROOT / "docs" / "c-api.md"
    (program,) = blocks(document, "c")
    (command,) = (block for block in blocks(document, "sh") if block.startswith("cc "))
    tmp_path.joinpath("layer.c").write_text(program, encoding="utf-8")
    tmp_path.joinpath("csrc").symlink_to(ROOT / "csrc")
    # Unoptimised, because optimising the whole core would take longer than all else in this file.
    subprocess.run(command.replace("-O3", "-O0"), shell=True, cwd=tmp_path, check=True)
    output = subprocess.run(["./a.out"], cwd=tmp_path, check=True, capture_output=True, text=True)
    (promised,) = re.findall(r"printf\(.*/\* (\S+):", program)
    assert output.stdout.strip() == promised


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links(path: Path) -> None:
    """Links to files lead to files, and links to headings to headings."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, heading = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), f"{path.name} links to {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, f"{path.name} links to {target}"
