"""Builds the extension modules of binconv; what it is made of is in pyproject.toml.

Every file of csrc/ is compiled once, and the objects are linked into both binconv.c_api (the
library, which binconv._core and other packages call through it) and binconv._kernels (single
kernels, for the tests and benchmarks). No file needs flags of its own: a kernel file switches its
instruction set on with a target pragma. binconv.h is copied into the package.

Environment variables:

BINCONV_SANITIZE  a list for -fsanitize=, such as address,undefined; also keeps the assertions.
BINCONV_THREADS   0 builds without threads.
BINCONV_WERROR    1 makes warnings in csrc/ errors.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent
INCLUDE_DIRS = ["csrc/include", "csrc"]
LINKED_WITH_CORE = ("binconv.c_api", "binconv._kernels")


@dataclass(frozen=True)
class Flags:
    """Arguments for the compiler, and for the linker."""

    compile: list[str]
    link: list[str]

    def __add__(self, other: Flags) -> Flags:
        return Flags(self.compile + other.compile, self.link + other.link)


def relative(pattern: str) -> list[str]:
    """Files of the source tree, as paths from its root with forward slashes."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def modified(path: str) -> float:
    return ROOT.joinpath(path).stat().st_mtime


def headers() -> list[str]:
    """Everything that a file of csrc/ may include."""
    patterns = ["csrc/*.h", "csrc/*.def", "csrc/*.inc", "csrc/include/*.h"]
    return [path for pattern in patterns for path in relative(pattern)]


def base_flags(msvc: bool) -> Flags:
    """Flags for the C sources and the Cython modules alike."""
    if msvc:
        return Flags(["/O2", "/std:c11", "/experimental:c11atomics", "/fp:precise"], [])
    # Contraction to FMA would change results with the compiler and the instruction set.
    return Flags(["-O3", "-std=c11", "-ffp-contract=off", "-fvisibility=hidden"], ["-lm"])


def sanitizer_flags(msvc: bool) -> Flags:
    sanitizers = os.environ.get("BINCONV_SANITIZE", "")
    if not sanitizers:
        return Flags([], [])
    if msvc:
        raise CompileError("BINCONV_SANITIZE needs GCC or Clang")
    instrument = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    # -fno-wrapv undoes what Python's own flags say and what would hide overflows.
    debug = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-wrapv", "-UNDEBUG", "-U_FORTIFY_SOURCE"]
    return Flags([*instrument, *debug], instrument)


def warning_flags(msvc: bool) -> list[str]:
    """For csrc/ only: what Cython generates is not ours to keep free of warnings."""
    werror = os.environ.get("BINCONV_WERROR", "0") == "1"
    if msvc:
        return ["/W3", *(["/WX"] if werror else [])]
    return ["-Wall", "-Wextra", "-Wpedantic", *(["-Werror"] if werror else [])]


def thread_flags(msvc: bool) -> Flags:
    if os.environ.get("BINCONV_THREADS", "1") == "0":
        print("binconv: threads are switched off, kernels run on the caller's alone")
        return Flags(["-DBC_NO_THREADS"], [])
    return Flags([], []) if msvc else Flags(["-pthread"], ["-pthread"])


class BuildExtensions(build_ext):
    """Compiles csrc/ once, then links it into the extension modules that hold it."""

    def build_extensions(self) -> None:
        import numpy

        msvc = self.compiler.compiler_type == "msvc"
        self.check_python_header()
        flags = base_flags(msvc) + sanitizer_flags(msvc) + thread_flags(msvc)
        objects = self.compile_core(flags.compile + warning_flags(msvc))
        for extension in self.extensions:
            extension.sources = self.translate(extension)
            extension.include_dirs = [*extension.include_dirs, numpy.get_include()]
            extension.extra_compile_args = flags.compile
            extension.extra_link_args = flags.link
            if extension.name in LINKED_WITH_CORE:
                extension.extra_objects = objects
                extension.depends = [*extension.depends, *objects]
        super().build_extensions()

    def translate(self, extension: Extension) -> list[str]:
        """Cython to C, here rather than at once so that metadata and sdists need no Cython."""
        import Cython
        import numpy
        from Cython.Build import cythonize

        (translated,) = cythonize(
            [extension],
            # What one NumPy declares for Cython does not compile with another's headers.
            build_dir=f"build/cython-{Cython.__version__}-numpy-{numpy.__version__}",
            include_path=[str(ROOT)],
            compiler_directives={"language_level": 3, "embedsignature": True},
        )
        return translated.sources

    def check_python_header(self) -> None:
        include = sysconfig.get_path("include")
        if not any(Path(path, "Python.h").is_file() for path in [include, *self.include_dirs]):
            raise CompileError(
                f"Python.h is not in {include}: install the development files of this Python "
                "(python3-dev on Debian and Ubuntu, python3-devel on Fedora)"
            )

    def compile_core(self, arguments: list[str]) -> list[str]:
        """Compiles what changed of csrc/ since the last time and returns all object files."""
        command = repr([getattr(self.compiler, "compiler_so", ""), arguments])
        digest = hashlib.sha256(command.encode()).hexdigest()[:12]
        folder = f"build/csrc-{self.plat_name}-{digest}"
        newest_header = max((modified(path) for path in headers()), default=0.0)
        objects = []
        for source in relative("csrc/*.c"):
            (target,) = self.compiler.object_filenames([source], output_dir=folder)
            objects.append(target)
            newest = max(newest_header, modified(source))
            if Path(target).is_file() and modified(target) > newest:
                continue
            self.compiler.compile(
                [source],
                output_dir=folder,
                include_dirs=INCLUDE_DIRS,
                extra_postargs=arguments,
            )
        return objects


class BuildPackage(build_py):
    """Puts the header where get_include() finds it; in an editable install that is csrc/include."""

    def run(self) -> None:
        super().run()
        for header in self.headers():
            self.mkpath(str(Path(header).parent))
            self.copy_file("csrc/include/binconv.h", header)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self.headers()]

    def headers(self) -> list[str]:
        if self.editable_mode:
            return []
        return [str(Path(self.build_lib, "binconv", "include", "binconv.h"))]


def extensions() -> list[Extension]:
    return [
        Extension(
            path.removesuffix(".pyx").replace("/", "."),
            [path],
            include_dirs=INCLUDE_DIRS,
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            depends=headers(),
        )
        for path in relative("binconv/*.pyx")
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions, "build_py": BuildPackage})
