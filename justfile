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

# Run the deterministic simulator; `just sim run simulations`.
sim *args:
    cargo run --release -- sim {{args}}

# All scenarios, ever further seeds, until something is found.
soak *args:
    cargo run --release -- sim run simulations --forever {{args}}

# Plant every bug there is a switch for; each must be found. Writes the table.
mutants *args:
    cargo run --release --features mutants -- sim mutants --out simulations/MUTANTS.md {{args}}

# A thousand simulated nodes in 19 regions; minutes, and 16 GB.
scale:
    cargo run --release -- sim run simulations/scale --seeds 1..1 --jobs 1 --figures

# Power cuts, full disks, damaged stores; what needs root says so.
crash rounds="20":
    FOLKMOOT_CRASH_ROUNDS={{rounds}} FOLKMOOT_KILL_ROUNDS={{rounds}} cargo test --locked --test it -- --nocapture crash durability damage

# The scenarios on real processes, in network namespaces; needs root.
lab *args:
    cargo build --release
    for scenario in simulations/locks-are-fenced.toml simulations/split-brain-heals.toml simulations/networks-of-all-shapes.toml simulations/restored-disk.toml \
        simulations/crashes-lose-nothing-acknowledged.toml simulations/members-come-and-go.toml simulations/lab/*.toml; do \
        cargo run --release -- chaos "$scenario" {{args}} || exit 1; done

# Feed a decoder made-up bytes, guided by what they reach: message, conversation, store, page, scenario, body. The flags
# are those cargo-fuzz would pass; they need no nightly toolchain, only a C++ compiler for libFuzzer.
fuzz target seconds="180":
    mkdir -p fuzz/found fuzz/grown/{{target}}
    cd fuzz && RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions --cfg fuzzing" \
        cargo run --release --target "$(rustc -vV | sed -n 's/host: //p')" --bin {{target}} -- \
        -max_total_time={{seconds}} -rss_limit_mb=3000 -artifact_prefix=found/ grown/{{target}} corpus/{{target}}

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
