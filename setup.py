"""Build of the one extension, ``fastmp._core``, from every C file below ``csrc/``.

Switches, each an environment variable set to 1:

* ``FASTMP_DEBUG``: ``-O0 -g`` and the consistency checks (``FMP_DEBUG``);
* ``FASTMP_SANITIZE``: AddressSanitizer and UBSan on top of the debug build;
* ``FASTMP_NO_TICK``: sleeps have no ticks, so that a lost wake-up shows as a hang (tests);
* ``FASTMP_WERROR``: warnings are errors (CI);
* ``FASTMP_GIL_NOT_USED``: a free-threaded Python need not switch the GIL on. Never run so far.

``CC=clang`` chooses the compiler. Files are compiled on all cores, and only those that changed:
an object is kept when its command line is the same and nothing it includes is newer.
"""

import glob
import os
import shlex
from concurrent.futures import ThreadPoolExecutor

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py


def switch(name):
    return os.environ.get(name, "") not in ("", "0")


def variant():
    """The name of the build that the switches ask for; each has its own folder of objects."""
    if switch("FASTMP_SANITIZE"):
        return "sanitize"
    if switch("FASTMP_NO_TICK"):
        return "notick"
    return "debug" if switch("FASTMP_DEBUG") else "release"


def compile_options():
    """(macros, compiler arguments, linker arguments) for the variant."""
    macros = [("_GNU_SOURCE", "1")]
    compile_args = ["-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread", "-O2"]
    link_args = ["-pthread"]
    if variant() != "release":
        # Python's own flags bring NDEBUG; the checks of a debug build must not vanish with it.
        compile_args += ["-O0", "-g", "-UNDEBUG"]
        macros.append(("FMP_DEBUG", "1"))
    if variant() == "notick":
        macros.append(("FMP_NO_TICK", "1"))
    if variant() == "sanitize":
        sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        compile_args += [*sanitizers, "-fno-omit-frame-pointer"]
        link_args += sanitizers
    if switch("FASTMP_GIL_NOT_USED"):
        macros.append(("FMP_GIL_NOT_USED", "1"))
    if switch("FASTMP_WERROR"):
        compile_args.append("-Werror")
    return macros, compile_args, link_args


def prerequisites(depfile):
    """The files named in a make rule that the compiler wrote, or None if there is no rule."""
    try:
        with open(depfile) as file:
            rule = file.read()
    except FileNotFoundError:
        return None
    return shlex.split(rule.replace("\\\n", " ").partition(":")[2])


def up_to_date(obj, command):
    """Whether `obj` was made by `command` from files that are all older than it."""
    try:
        with open(obj + ".cmd") as file:
            if file.read() != command:
                return False
        made = os.stat(obj).st_mtime_ns
        needs = prerequisites(obj + ".d")
        return needs is not None and all(os.stat(name).st_mtime_ns < made for name in needs)
    except OSError:
        return False


class ParallelBuildExt(build_ext):
    """Compiles the C files side by side, and only those that changed."""

    def finalize_options(self):
        super().finalize_options()
        # distutils compares the sources with the library alone and would miss other switches;
        # up_to_date() decides for each object.
        self.force = True
        self.build_temp = os.path.join(self.build_temp, variant())

    def build_extensions(self):
        self.compiler.compile = self.compile_objects
        super().build_extensions()

    def compile_objects(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0,
                        extra_preargs=None, extra_postargs=None, depends=None):  # fmt: skip
        cc = self.compiler
        macros, objects, postargs, pp_opts, build = cc._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        cc_args = cc._get_cc_args(pp_opts, debug, extra_preargs)
        command = shlex.join([*cc.compiler_so, *cc_args, *postargs])

        def compile_one(obj):
            src, ext = build[obj]
            if up_to_date(obj, command):
                return
            args = [*postargs, "-MMD", "-MF", obj + ".d"]
            cc._compile(obj, src, ext, cc_args, args, pp_opts)
            with open(obj + ".cmd", "w") as file:
                file.write(command)

        jobs = int(self.parallel or os.cpu_count() or 1)
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(compile_one, objects))
        return objects


class BuildPyWithHook(build_py):
    """Puts fastmp.pth beside the package, where site reads it: FASTMP_INSTALL=1 needs it.

    An editable install has no such file (setuptools writes a .pth of its own, and no other), so
    there FASTMP_INSTALL does nothing; ``fastmp.install()`` and ``python -m fastmp`` work.
    """

    def run(self):
        super().run()
        if not self.editable_mode:
            self.copy_file("fastmp.pth", self._pth())

    def _pth(self):
        return os.path.join(self.build_lib, "fastmp.pth")

    def get_outputs(self, include_bytecode=True):
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, self._pth()]

    def get_source_files(self):
        return [*super().get_source_files(), "fastmp.pth"]


macros, compile_args, link_args = compile_options()

core = Extension(
    "fastmp._core",
    sources=sorted(glob.glob("csrc/**/*.c", recursive=True)),
    depends=sorted(glob.glob("csrc/**/*.h", recursive=True)),
    include_dirs=["csrc"],
    define_macros=macros,
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)

setup(
    ext_modules=[core],
    packages=["fastmp", "fastmp.dummy"],
    py_modules=["_fastmp_hook"],
    package_data={"fastmp": ["py.typed", "*.pyi"]},
    cmdclass={"build_ext": ParallelBuildExt, "build_py": BuildPyWithHook},
)
