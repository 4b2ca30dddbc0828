# `just` lists the recipes; `just check` is exactly what CI runs.

default:
    @just --list

# Format, lints, the core alone, every test.
check:
    ./.ci/run

# Every test; with words, those whose names hold them.
test *words:
    cargo test --locked {{words}}

# The inner loop: floors 0 to 6 and their tests, in seconds.
core *words:
    cargo test --locked --no-default-features --lib {{words}}

# Format the code.
fmt:
    cargo fmt

# Three processes on this machine: one state, a split, a healing.
demo *args:
    cargo run --release -- demo {{args}}

# A cluster to play with, cuttable; Ctrl-C stops it.
cluster nodes="3":
    cargo run --release -- cluster --nodes {{nodes}} --chaos

# Measure this build on this machine.
bench *args:
    cargo run --release -- bench {{args}}

# The embedding example.
embed:
    cargo run --release --example embed

# Licences and advisories of every dependency; needs cargo-deny.
deny:
    cargo deny check advisories bans licenses sources

# The API's documentation, and its examples run.
doc:
    cargo doc --no-deps --locked
    cargo test --locked --doc
