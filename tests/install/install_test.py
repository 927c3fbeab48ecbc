#!/usr/bin/env python3
"""What `cmake --install` gives, as a consumer meets it.

    install_test.py BUILD_DIR CMAKE CXX [CASE...]

Each case installs BUILD_DIR into a folder of its own, with DESTDIR and --prefix, moves the
result, and uses it from there: so whatever still points to the build, to the source or
to the place of the installation is found. The consumers (consumer/, and consumer_c/ in C) lie
in another temporary folder. Nothing outside these folders is written. CMake runs each case as
one ctest test.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD, CMAKE, CXX = (os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3])
LIMIT = 240  # seconds that any one command may take

# What an embedder includes; what is installed has to be this and what these include.
ENTRY_HEADERS = {
    "publisher/port_selector.h", "publisher/port_spec.h", "publisher/published_port.h",
    "relay/endpoint.h", "relay/socket_factory.h", "relay/time.h",
    "stack/asio_driver.h", "stack/config.h", "stack/counters.h", "stack/stack.h",
    "stack/link/capture.h", "stack/link/frame_ring.h", "stack/link/impair.h", "stack/link/link.h",
    "stack/link/pcapng.h", "stack/link/tap.h", "stack/link/virtio_header.h",
    "stack/link/vmm_link.h",
    "stack/penstock.h",
    "stack/policy/policy.h",
}
ASIO_HEADER = "stack/asio_driver.h"  # the only one that may show Asio


def run(*command, cwd=None, **environment):
    """Standard output of a command that has to succeed."""
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, timeout=LIMIT,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise AssertionError(f"{shlex.join(command)}: exit status {done.returncode}\n"
                             + done.stdout[-4000:])
    return done.stdout


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def files_below(folder):
    return {os.path.relpath(os.path.join(where, name), folder)
            for where, _, names in os.walk(folder) for name in names}


def readme_block(marker):
    """The code between <!-- marker --> and <!-- /marker --> of the README."""
    found = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)```\n<!-- /{marker} -->",
                      read(SOURCE, "README.md"), re.DOTALL)
    assert found, f"README.md has no block {marker}"
    return found.group(1)


class Install(unittest.TestCase):
    def setUp(self):
        # Not below the source: nothing may be found there by chance.
        folder = tempfile.TemporaryDirectory(prefix="penstock-install-")
        self.addCleanup(folder.cleanup)
        self.work = os.path.join(folder.name, "work")
        self.tree = os.path.join(folder.name, "moved")
        stage = os.path.join(folder.name, "stage")
        run(CMAKE, "--install", BUILD, "--prefix", "/opt/penstock", DESTDIR=stage)
        self.assertEqual(os.listdir(stage), ["opt"])
        os.rename(os.path.join(stage, "opt", "penstock"), self.tree)
        self.include = os.path.join(self.tree, "include", "penstock")
        shutil.copytree(os.path.join(SOURCE, "tests", "install", "consumer"), self.work)
        shutil.copy(os.path.join(SOURCE, "tools", "examples", "embed.cc"), self.work)
        self.work_c = os.path.join(folder.name, "work_c")
        shutil.copytree(os.path.join(SOURCE, "tests", "install", "consumer_c"), self.work_c)
        shutil.copy(os.path.join(SOURCE, "tools", "examples", "mini_runtime.c"), self.work_c)

    def find(self, name):
        found = [path for path in files_below(self.tree) if os.path.basename(path) == name]
        self.assertEqual(len(found), 1, f"{name}: {found}")
        return os.path.join(self.tree, found[0])

    def headers(self):
        return sorted(files_below(self.include))

    def programs_work(self, folder):
        """Runs what a way of building has made of the consumer."""
        self.assertIn("10.0.2.2 is at", run(os.path.join(folder, "embed")))
        run(os.path.join(folder, "with_archive"))
        run(os.path.join(folder, "with_shared_library"), LD_LIBRARY_PATH=folder)
        run(os.path.join(folder, "with_asio"))
        for file in ("embed", "with_archive", "libembedder.so", "with_asio"):
            needed = run("readelf", "--dynamic", os.path.join(folder, file))
            self.assertNotIn("libpenstock", needed, "the archive, not the C ABI beside it")
        exported = run("nm", "--dynamic", "--defined-only", "--demangle",
                       os.path.join(folder, "libembedder.so")).splitlines()
        # Strong symbols: what the consumer's own code instantiates is its own business.
        ours = [line for line in exported
                if re.search(r" [A-TX-Z] .*(penstock|boost::asio|tcp_|pbuf_)", line)]
        self.assertTrue([line for line in exported if line.endswith(" T RunEmbedder")], exported)
        self.assertEqual(ours, [])

    def test_headers(self):
        """Each compiles alone, and together they are what an embedder needs."""
        reached = set()
        for header in self.headers():
            source = os.path.join(self.work, "alone.cc")
            with open(source, "w", encoding="utf-8") as file:
                file.write(f'#include "{header}"\n')
            run(CXX, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I",
                self.include, "-MD", "-MF", source + ".d", source)
            seen = {os.path.normpath(path)
                    for path in read(source + ".d").replace("\\\n", " ").split()[2:]}
            foreign = [path for path in seen
                       if path.startswith((SOURCE + "/", BUILD + "/")) or "lwip" in path
                       or ("boost/" in path and header != ASIO_HEADER)]
            self.assertEqual(foreign, [], f"{header} must not reach these")
            if header in ENTRY_HEADERS:
                reached |= {os.path.relpath(path, self.include) for path in seen
                            if path.startswith(self.include + "/")}
        self.assertEqual(set(self.headers()), reached)

    def test_includes(self):
        """The same, read and not compiled: also what an #if hides from the compiler."""
        names = set(self.headers())
        for header in names:
            for include in re.findall(r'^\s*#\s*include\s*(["<].*[">])', read(self.include, header),
                                      re.MULTILINE):
                name = include[1:-1]
                allowed = (name in names or name.startswith("absl/")
                           if include[0] == '"' else
                           "/" not in name or name.startswith("sys/")
                           or (name.startswith("boost/asio/") and header == ASIO_HEADER))
                self.assertTrue(allowed, f"{header} includes {include}")

    def test_find_package(self):
        """The consumer, built as its CMakeLists.txt and the README say."""
        self.assertIn(readme_block("cmake"), read(self.work, "CMakeLists.txt"))
        build = os.path.join(self.work, "build")
        run(CMAKE, "-G", "Ninja", "-S", self.work, "-B", build, f"-DCMAKE_CXX_COMPILER={CXX}",
            f"-DCMAKE_PREFIX_PATH={self.tree}")
        run(CMAKE, "--build", build)
        dependencies = run("ninja", "-C", build, "-t", "deps")
        self.assertIn(os.path.join(self.include, "stack", "stack.h"), dependencies)
        for folder in (SOURCE, BUILD):
            self.assertNotIn(folder + "/", dependencies)
        self.programs_work(build)

    def test_pkg_config(self):
        """The same programs by pkg-config, with and without --static."""
        where = {"PKG_CONFIG_PATH": os.path.dirname(self.find("penstock.pc"))}
        line = readme_block("pkg-config").strip()
        self.assertTrue(line.startswith("g++ "), line)
        run("sh", "-c", line, cwd=self.work, **where)
        compile_all = f"""set -eux
            flags="-std=c++20 -Wall -Werror"
            penstock=$(pkg-config --static --cflags --libs penstock)
            cc -c own_lwip.c
            {CXX} $flags main.cc embedder.cc own_lwip.o $penstock -o with_archive
            {CXX} $flags -fPIC -shared -Wl,-z,defs embedder.cc $penstock -o libembedder.so
            {CXX} $flags main.cc -L. -lembedder -o with_shared_library
            {CXX} $flags driver.cc $(pkg-config --cflags --libs penstock-asio) -o with_asio"""
        run("sh", "-c", compile_all, cwd=self.work, **where)
        self.programs_work(self.work)

    def runtime_works(self, program, **environment):
        """The C example on a socket of a pair, until its stdin ends."""
        here, there = socket.socketpair()
        with here, there:
            done = subprocess.run([program, str(there.fileno())], pass_fds=[there.fileno()],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                  timeout=LIMIT, env={**os.environ, **environment}, check=True)
        self.assertIn("ready\n", done.stdout)
        self.assertTrue(done.stdout.endswith("stopped\n"), done.stdout)
        self.assertIn("[libpenstock.so.0]", run("readelf", "--dynamic", program))

    def test_c_by_find_package(self):
        """A consumer in C, where there is nothing for C++."""
        self.assertIn(readme_block("cmake-c"), read(self.work_c, "CMakeLists.txt"))
        build = os.path.join(self.work_c, "build")
        run(CMAKE, "-G", "Ninja", "-S", self.work_c, "-B", build, "-DCMAKE_C_FLAGS=-Wall -Werror",
            "-DCMAKE_DISABLE_FIND_PACKAGE_absl=TRUE", f"-DCMAKE_PREFIX_PATH={self.tree}")
        run(CMAKE, "--build", build)
        self.runtime_works(os.path.join(build, "mini_runtime"))

    def test_c_by_pkg_config(self):
        """The same by pkg-config, whose module asks for no other."""
        where = {"PKG_CONFIG_PATH": os.path.dirname(self.find("penstock-c.pc"))}
        self.assertEqual(run("pkg-config", "--print-requires", "--print-requires-private",
                             "penstock-c", **where), "")
        line = readme_block("pkg-config-c").strip()
        self.assertTrue(line.startswith("cc -std=c11 "), line)
        run("sh", "-c", line, cwd=self.work_c, **where)
        self.runtime_works(os.path.join(self.work_c, "mini_runtime"),
                           LD_LIBRARY_PATH=os.path.dirname(self.find("libpenstock.so.0")))

    def test_programs(self):
        for program in ("penstock", "net-echo"):
            self.assertIn("--help", run(os.path.join(self.tree, "bin", program), "--help"))

    def test_package_files(self):
        """They name no place of the build or the installation, and tell the version."""
        for path in files_below(self.tree):
            if path.endswith((".cmake", ".pc")):
                text = read(self.tree, path)
                for place in (SOURCE, BUILD, "/opt/", os.path.dirname(self.tree)):
                    self.assertNotIn(place, text, path)
        version = re.search(r"^project\(penstock VERSION (\S+)", read(SOURCE, "CMakeLists.txt"),
                            re.MULTILINE).group(1)
        where = {"PKG_CONFIG_PATH": os.path.dirname(self.find("penstock.pc"))}
        for module in ("penstock", "penstock-asio", "penstock-c"):
            self.assertEqual(run("pkg-config", "--modversion", module, **where).strip(), version)
        major, minor, _ = version.split(".")
        self.assertTrue(self.accepts(f"{major}.{minor}"))
        self.assertFalse(self.accepts(f"{major}.{int(minor) + 1}"))
        self.assertFalse(self.accepts(f"{int(major) + 1}.{minor}"))

    def accepts(self, wanted):
        """Whether find_package(penstock WANTED) takes this one, asked in a script."""
        script = os.path.join(self.work, "version.cmake")
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"set(PACKAGE_FIND_VERSION {wanted})\n"
                       + "".join(f"set(PACKAGE_FIND_VERSION_{part} {value})\n" for part, value in
                                 zip(("MAJOR", "MINOR"), wanted.split(".")))
                       + f"set(CMAKE_SIZEOF_VOID_P {8 if sys.maxsize > 2**32 else 4})\n"
                       + f"include({self.find('penstock-config-version.cmake')})\n"
                       + "message(\"${PACKAGE_VERSION_COMPATIBLE}\")\n")
        return run(CMAKE, "-P", script).strip() == "TRUE"

    def test_licences(self):
        """Those of what the archive and the programs hold."""
        self.assertEqual(read(self.find("LICENSE")), read(SOURCE, "LICENSE"))
        self.assertIn("Swedish Institute of Computer Science", read(self.find("LICENSE.lwip")))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *(f"Install.{case}" for case in sys.argv[4:])])
