# Everything there is to do with this source tree. Each target is a line or two over scripts/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: serve test build check format bench fuzz mutations conformance conformance-smb sanitize clean

# How long each fuzz target runs, in seconds.
FUZZ_SECONDS ?= 60
# Where `make serve` keeps its volumes, and what else it passes to the server.
DATA ?= ./data
ARGS ?=

serve: build
	exec .build/release/proxyfs serve --data $(DATA) $(ARGS)

build:
	scripts/install build run
	scripts/swift build --product proxyfs
	scripts/swift build --product proxyfs-sim

test:
	scripts/test

check: build
	scripts/install test
	scripts/check

format:
	"$$(scripts/toolchain)" format -i --configuration .swift-format $$(git ls-files '*.swift')

bench:
	scripts/install bench build test
	for run in benchmarks/*/run; do echo "== $$run"; "$$run"; done

fuzz:
	scripts/install build
	for target in fuzz/*.swift; do scripts/fuzz "$$(basename "$$target" .swift)" $(FUZZ_SECONDS); done

mutations:
	scripts/install build test
	scripts/mutations

conformance: build
	scripts/install test
	scripts/conformance full

# All of SMB alone.
conformance-smb: build
	scripts/install test
	conformance/smb/full

sanitize:
	scripts/install build
	scripts/sanitize address
	scripts/sanitize thread

clean:
	rm -rf .build .build-*
