# Every command of the project; `just --list` shows them.

# what CI runs; all of it, or some steps
ci *steps:
    .ci/run {{steps}}

# the demo
demo:
    cargo run --release -- demo

test:
    cargo test

# a minute of each system's story; too long for `cargo test`
stories:
    cargo test --test it -- --ignored

lint:
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# real identity providers, fetched into tests/e2e/.work
e2e:
    tests/e2e/run

# curl, npm's ws, PyPI's websockets and grpcio, with and without the program between
interop *suites:
    tests/interop/run {{suites}}

# gigabytes, slow readers, clients that leave, races, a million requests
scale *steps:
    tests/scale/run {{steps}}

# side by side with nginx and others; see bench/README.md
bench *args:
    bench/run {{args}}

# instructions per request under callgrind
instructions *args:
    bench/instructions {{args}}

# writes the JSON schema that editors use
schema:
    cargo run --quiet -- schema > deploy/bearerd.schema.json

# manifests, chart, alerts, dashboard, unit, image; tools are installed into tests/deploy/.work
deploy *steps:
    tests/deploy/run {{steps}}

# archives for amd64 and arm64, checksums, bill of materials, below target/dist; `--verify` builds twice
release *archs:
    deploy/release {{archs}}

# runs the commands of README.md and docs/
docs:
    tests/docs/run

# writes shell completions and manual pages
manual dir="target/manual":
    cargo run --quiet --example manual -- {{dir}}

# libFuzzer on guard, paths, header pipeline, configuration, answers: so many seconds each
fuzz seconds="600" *targets:
    fuzz/run {{seconds}} {{targets}}

# the same parts by many random cases, without a nightly toolchain
properties cases="1000000":
    PROPTEST_CASES={{cases}} PROPTEST_MAX_GLOBAL_REJECTS={{cases}} cargo test --lib -- fuzz_ random routing_equals the_upstream_sees

# real Chromium against the program (what is missing is installed into tests/browser/.work)
browser:
    tests/browser/run

# a thousand slow connections against the program's default limits
slow *args:
    cargo build --release
    tests/hostile/slow {{args}}

# floods of HTTP/2 frames against the program's default limits
flood *args:
    cargo build --release
    tests/hostile/flood {{args}}
