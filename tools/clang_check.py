#!/usr/bin/env python3
"""clang's warnings as errors over our own sources, without building anything.

    tools/clang_check.py [--tidy] BUILD_FOLDER FOLDER...

Takes each command of BUILD_FOLDER/compile_commands.json whose source lies in one of the
folders (relay, tests/world), leaves out what only g++ knows, and has clang look
at the syntax: about two seconds of a core for each file. With --tidy, clang-tidy: the same
warnings and the rules of .clang-tidy, at six times the cost. Status 1 if a file has a finding.
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# clang 14 has the coroutines of C++20, but does not say so to the library.
CLANG = ["-D__cpp_impl_coroutine=201902L"]
WITH_A_VALUE = {"-o", "-MT", "-MF"}
LEFT_OUT = {"-c", "-MD", "-Wshadow=local"}


def arguments_for_clang(entry):
    """The entry's arguments that clang knows, but for the source."""
    words = iter(shlex.split(entry["command"]))
    for word in words:
        if word.endswith("g++"):
            break
    result = list(CLANG)
    for word in words:
        if word in WITH_A_VALUE:
            next(words)
        elif word not in LEFT_OUT and word != entry["file"]:
            result.append(word)
    return result


def check(entry, tidy):
    """Returns what clang says, or "" if that is nothing."""
    arguments = arguments_for_clang(entry)
    if tidy:
        command = ["clang-tidy-14", "--quiet", entry["file"], "--", *arguments]
    else:
        command = ["clang++-14", "-fsyntax-only", *arguments, entry["file"]]
    run = subprocess.run(command, cwd=entry["directory"], text=True, check=False,
                         stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
    return run.stdout if run.returncode != 0 else ""


def main():
    words = sys.argv[1:]
    tidy = words[:1] == ["--tidy"]
    if tidy:
        del words[0]
    folders = [ROOT / folder for folder in words[1:]]
    entries = []
    for entry in json.loads((pathlib.Path(words[0]) / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if path.suffix == ".cc" and any(map(path.is_relative_to, folders)):
            entries.append(entry)
    found = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, said in enumerate(pool.map(lambda each: check(each, tidy), entries), 1):
            found += said != ""
            print(said, end="")
            if number % 20 == 0 or number == len(entries):
                print(f"{number} of {len(entries)} files", flush=True)
    print(f"{found} with a finding")
    return 1 if found or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
