"""Commands within sentences: each is run, runs in another test, or is named with the reason why
nobody runs it. What is in no table is a fault of whoever wrote it down.
"""
import os
import re

PROGRAM = re.compile(
    r"(cargo|docker|bearerd|curl|just|helm|kubectl|kustomize|systemctl|systemd-\w+|openssl|python3?|pip|npm|npx|go|"
    r"promtool|podman|git|rustup|sudo|apt|apt-get|redis-cli)\s")
SCRIPT = re.compile(
    r"(?:[A-Z]+=\S+ )*((tests/\w+|fuzz|bench|\.ci)/run|deploy/(release|build-static)|bench/(instructions|order))(\s|$)")
# Run in the sandbox as they stand.
RUN = r"bearerd schema|bearerd init --help|openssl rand -base64 32"
# No commands but their forms, or words of a log or a header field.
FORMS = (r"bearerd (run|check|token|demo|health|init)\b.*(--config FILE|\[|NAME)|bearerd(-refusal)?: |"
         r"bearerd (health( --ready)?|init( --provider google)?)|just --list|curl --http2-prior-knowledge|systemctl reload")
# Run by this file, which holds these words.
ELSEWHERE = {
    r"cargo test --test faults f5": ("tests/faults/outage.rs", "f5"),
    r"cargo test": (".ci/run", "step tests 1500 cargo test"),
    r"cargo doc --open": (".ci/run", "cargo doc"),
    r"cargo build --release --features otlp": (".ci/run", "--features otlp"),
    r"docker buildx build --platform linux/amd64,linux/arm64 \.": ("tests/deploy/image-arm64", "--platform linux/arm64"),
    r"curl --unix-socket .*": ("tests/it/listen.rs", "a_unix_socket_is_for_its_user"),
    r"systemd-analyze security": ("tests/deploy/run", "systemd-analyze security"),
    r"just (\w+).*": ("justfile", r"\1"),
}
# Run by nobody but a person.
BY_HAND = {
    r"cargo test --test faults -- --ignored soak": "ten minutes of real time",
    r"cargo test --test redis -- --ignored spread": "a hundred programs, for minutes",
    r"(tests/scale/run).*": "gigabytes and a million requests",
    r"STRIP=debuginfo deploy/build-static amd64": "the static build once more, which .ci/run makes without the names",
    r"bench/order --add": "wants that build",
    r"systemctl stop .*": "no service manager in a sandbox; tests/deploy/activation does the same without one",
}


def is_command(text):
    return PROGRAM.match(text) or SCRIPT.match(text)


def spans(text):
    """What stands between backquotes in sentences, with its line."""
    text = re.sub(r"^\s*```.*?^\s*```", lambda block: "\n" * block[0].count("\n"), text, flags=re.S | re.M)
    for found in re.finditer(r"`([^`]+)`", text):
        yield text[:found.start()].count("\n") + 1, re.sub(r"\s+", " ", found[1])


class Mentioned:
    """The commands of all pages, and what became of each."""

    def __init__(self, root):
        self.root, self.ci, self.by_hand = root, (root / ".ci/run").read_text(), set()
        self.elsewhere = 0

    def to_run(self, where, text):
        """Whether this is to be run; raises LookupError where nobody knows."""
        if re.fullmatch(RUN, text):
            return True
        if re.match(FORMS, text):
            return False
        for pattern, reason in BY_HAND.items():
            if found := re.fullmatch(pattern, text):
                self.by_hand.add((found[1] if found.groups() else text, reason))
                return False
        for pattern, (file, words) in ELSEWHERE.items():
            if found := re.fullmatch(pattern, text):
                words = found.expand(words)
                if words not in (self.root / file).read_text():
                    raise LookupError(f"{where}: `{text}` should run in {file}, which does not say `{words}`")
                self.elsewhere += 1
                return False
        if found := SCRIPT.match(text):
            if not os.access(self.root / found[1], os.X_OK):
                raise LookupError(f"{where}: `{found[1]}` is not there, or no program")
            # The latter are run by tests/docs/run itself.
            if found[1] not in (".ci/run", "bench/run", "bench/order", "deploy/build-static") and found[1] not in self.ci:
                raise LookupError(f"{where}: .ci/run does not run `{found[1]}`; say by whose hand in tests/docs/mentioned.py")
            self.elsewhere += 1
            return False
        raise LookupError(f"{where}: nobody runs `{text}`: say in tests/docs/mentioned.py who does, or why nobody")
