"""Build of the one extension, ``fastmp._core``, from every C file below ``csrc/``.

Switches, each an environment variable set to 1:

* ``FASTMP_DEBUG``: ``-O0 -g`` and the consistency checks (``FMP_DEBUG``);
* ``FASTMP_SANITIZE``: AddressSanitizer and UBSan on top of the debug build;
* ``FASTMP_WERROR``: warnings are errors (CI).
"""

import glob
import os

from setuptools import Extension, setup


def switch(name):
    return os.environ.get(name, "") not in ("", "0")


compile_args = ["-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra", "-O2"]
link_args = ["-pthread"]
macros = [("_GNU_SOURCE", "1")]

if switch("FASTMP_DEBUG") or switch("FASTMP_SANITIZE"):
    compile_args += ["-O0", "-g"]
    macros.append(("FMP_DEBUG", "1"))
if switch("FASTMP_SANITIZE"):
    sanitizers = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    compile_args += sanitizers
    link_args += sanitizers
if switch("FASTMP_WERROR"):
    compile_args.append("-Werror")

core = Extension(
    "fastmp._core",
    sources=sorted(glob.glob("csrc/**/*.c", recursive=True)),
    depends=sorted(glob.glob("csrc/**/*.h", recursive=True)),
    include_dirs=["csrc"],
    define_macros=macros,
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)

setup(ext_modules=[core], packages=["fastmp", "fastmp.dummy"], package_data={"fastmp": ["py.typed", "*.pyi"]})
