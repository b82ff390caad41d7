"""Builds the example jars from their sources: `python build.py [FOLDER]` writes them there, by default beside itself.

It needs a JDK of 17 or newer (`javac` in JAVA_HOME/bin or on the PATH) and the Flink of an installed pyflink to compile
against. The same javac gives the same bytes every time, so that a test can tell whether a jar is what its source says.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"  # a folder for each jar
JAVA_RELEASE = "11"  # the oldest that Flink 1.20 and 2.x run on
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can hold
MANIFEST = "META-INF/MANIFEST.MF"


class CannotBuild(Exception):
    """What is missing or wrong, in a line."""


def javac() -> Path:
    """The compiler; raises CannotBuild where there is none."""
    in_home = Path(os.environ.get("JAVA_HOME", ""), "bin", "javac")
    found = str(in_home) if os.environ.get("JAVA_HOME") and in_home.exists() else shutil.which("javac")
    if not found:
        raise CannotBuild("there is no javac: install a JDK (Debian, Ubuntu: openjdk-17-jdk-headless) or set JAVA_HOME")
    return Path(found)


def java_version(compiler: Path) -> str:
    """The compiler's version without its minor numbers: `17`."""
    said = subprocess.run([compiler, "-version"], check=True, capture_output=True, text=True)
    return (said.stdout or said.stderr).split()[1].partition(".")[0]


def flink_jars() -> list[Path]:
    """What the examples are compiled against."""
    found = importlib.util.find_spec("pyflink")
    if found is None or found.origin is None:
        raise CannotBuild("there is no Flink to compile against: install apache-flink into this Python")
    return sorted(Path(found.origin).parent.glob("lib/*.jar"))


def compiled(sources: Path, classes: Path) -> dict[str, bytes]:
    """The class files of one jar by their names in it."""
    flink = os.pathsep.join(map(str, flink_jars()))
    java = sorted(sources.rglob("*.java"))
    # Without debug information, which holds nothing but lines and names that could differ.
    options = ["--release", JAVA_RELEASE, "-g:none", "-proc:none", "-encoding", "UTF-8", "-Xlint:-options"]
    command = [javac(), *options, "-d", classes, "-classpath", flink, *java]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotBuild(f"{sources.name} does not compile:\n{done.stderr}")
    return {file.relative_to(classes).as_posix(): file.read_bytes() for file in classes.rglob("*.class")}


def write_jar(jar: Path, entries: dict[str, bytes]) -> None:
    """The entries, the manifest first and the rest sorted, without a time or an owner of the machine."""
    with zipfile.ZipFile(jar, "w") as archive:
        for name in sorted(entries, key=lambda name: (name != MANIFEST, name)):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type = zipfile.ZIP_STORED  # compressed bytes differ between versions of zlib
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, entries[name])


def build(folder: Path) -> list[Path]:
    """Every example jar, written into the folder."""
    manifest = f"Manifest-Version: 1.0\r\nBuild-Jdk-Spec: {java_version(javac())}\r\n\r\n".encode()
    jars = []
    for sources in sorted(SOURCES.iterdir()):
        with tempfile.TemporaryDirectory() as classes:
            entries = compiled(sources, Path(classes))
        jars.append(folder / f"{sources.name}.jar")
        write_jar(jars[-1], {MANIFEST: manifest, **entries})
    return jars


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    try:
        for jar in build(folder):
            print(jar)
    except CannotBuild as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
