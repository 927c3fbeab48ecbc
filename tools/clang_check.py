#!/usr/bin/env python3
"""clang's warnings as errors over our own sources, without building anything.

    tools/clang_check.py [--tidy] BUILD_FOLDER FOLDER...

Takes each command of BUILD_FOLDER/compile_commands.json whose source lies in one of the
folders (relay, tests/world), leaves out what only g++ knows, and has clang look
at the syntax: about two seconds of a core for each file. BUILD_FOLDER is of a preset that
compiles each file alone (dev), so that a missing #include shows. With --tidy, clang-tidy: the
same warnings and the rules of .clang-tidy. The files of a folder are read as one text then, for
half of the time would go into the headers that they share. Status 1 if there is a finding.
"""

import concurrent.futures
import json
import os
import pathlib
import re
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


def said_by(command, entry):
    """What the command says where the entry is compiled, or "" if it finds nothing."""
    run = subprocess.run(command, cwd=entry["directory"], text=True, check=False,
                         stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
    return run.stdout if run.returncode != 0 else ""


def check_syntax(entry):
    return said_by(["clang++-14", "-fsyntax-only", *arguments_for_clang(entry), entry["file"]],
                   entry)


def tidy(entries, text_path):
    """clang-tidy over entries that have a folder and their arguments in common."""
    sources = [pathlib.Path(entry["file"]) for entry in entries]
    texts = [source.read_text() for source in sources]
    text_path.parent.mkdir(parents=True, exist_ok=True)
    text_path.write_text("".join(texts))
    lines = [(source, number) for source, text in zip(sources, texts)
             for number in range(1, text.count("\n") + 1)]

    def place(found):
        source, number = lines[int(found[1]) - 1]
        return f"{source}:{number}:"

    said = said_by(["clang-tidy-14", "--quiet", f"--config-file={ROOT / '.clang-tidy'}",
                    str(text_path), "--", *arguments_for_clang(entries[0])], entries[0])
    return re.sub(rf"{re.escape(str(text_path))}:(\d+):", place, said)


def folders_of(entries):
    """Lists of entries to be read together, the longest first."""
    groups = {}
    for entry in entries:
        key = str(pathlib.Path(entry["file"]).parent), tuple(arguments_for_clang(entry))
        groups.setdefault(key, []).append(entry)
    return sorted(groups.values(), key=len, reverse=True)


def main():
    words = sys.argv[1:]
    tidies = words[:1] == ["--tidy"]
    if tidies:
        del words[0]
    folders = [ROOT / folder for folder in words[1:]]
    entries = []
    for entry in json.loads((pathlib.Path(words[0]) / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if path.suffix == ".cc" and any(map(path.is_relative_to, folders)):
            entries.append(entry)
    found = done = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        if tidies:
            texts = pathlib.Path(words[0]).resolve() / "tidy"
            jobs = {pool.submit(tidy, group, texts / f"{number}.cc"): len(group)
                    for number, group in enumerate(folders_of(entries))}
        else:
            jobs = {pool.submit(check_syntax, entry): 1 for entry in entries}
        for job in concurrent.futures.as_completed(jobs):
            said = job.result()
            found += said != ""
            print(said, end="")
            before, done = done, done + jobs[job]
            if done // 20 != before // 20 or done == len(entries):
                print(f"{done} of {len(entries)} files", flush=True)
    print(f"{found} with a finding")
    return 1 if found or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
