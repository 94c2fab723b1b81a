"""h2spec, which breaks the rules of HTTP/2 one after the other, against the listener: in the clear
with prior knowledge, and over TLS."""

import os
import subprocess
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

from curl import certificate
from harness import Program, finish, plain
from origin import Origin

# In the clear, what is no preface of HTTP/2 is HTTP/1.1, and answered in it before the end.
IN_THE_CLEAR = {"Sends invalid connection preface"}


def cases(port, flags, report):
    """Each case's name and what came of it: nothing, or what is wrong."""
    command = [os.environ["H2SPEC"], "--strict", "-h", "127.0.0.1", "-p", str(port), "-o", "5", "-j", str(report)]
    subprocess.run([*command, *flags], capture_output=True, timeout=300)
    for case in xml.parse(report).iter("testcase"):
        wrong = case.find("failure")
        if wrong is None:
            wrong = case.find("error")
        skipped = case.find("skipped")
        text = None if wrong is None else " ".join((wrong.text or "failed").split())
        yield case.get("package"), case.get("classname"), "skipped" if skipped is not None else text


def main():
    origin = Origin()
    wrong = []
    count = 0
    with tempfile.TemporaryDirectory() as directory:
        cert, key = certificate(directory)
        tls = f"tls: {{cert_file: {cert}, key: {{file: {key}}}}}\n"
        with Program(plain(origin.port)) as clear, Program(tls + plain(origin.port)) as sealed:
            for name, program, flags in [("clear", clear, []), ("TLS", sealed, ["-t", "-k"])]:
                for package, case, failure in cases(program.port, flags, Path(directory) / "report.xml"):
                    count += 1
                    if failure and not (program is clear and case in IN_THE_CLEAR):
                        wrong.append(f"{name}: {package}: {case}: {failure}")
    if count < 290:
        wrong.append(f"only {count} cases")
    finish("h2spec", count, wrong)


if __name__ == "__main__":
    main()
