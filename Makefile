# CIDStore: make alone lists the targets.

GO ?= go
PACKAGES ?= ./...

.DEFAULT_GOAL := help
.PHONY: help build install lint test race fuzz programs crash figures bench bench-peers big beside test-peers cross qemu interop demo debian check man

help: ## this list
	@echo "Targets:"
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-13s %s\n", $$1, $$2 }'

build: ## the program, without cgo, as dist/cidstore
	CGO_ENABLED=0 $(GO) build -trimpath -o dist/cidstore ./cmd/cidstore

install: ## the program, into the folder where go install puts programs
	CGO_ENABLED=0 $(GO) install -trimpath ./cmd/cidstore

lint: ## gofmt, go vet, staticcheck, spelling and phrases
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags 'invariants seedbug' ./...
	$(GO) tool staticcheck ./...
	$(GO) test ./internal/prose

test: ## every test, with the foreign programs that are compared with (TESTFLAGS=-v and the like; PACKAGES=./wal)
	scripts/oracles
	$(GO) test -timeout 30m $(TESTFLAGS) $(PACKAGES)

# At its end a program of the race detector sleeps for a second: hundreds of them run. lint has
# vetted these packages, with the same tag.
race: ## every test under the race detector, with the invariants of debug builds; a sample of what one goroutine searches
	GORACE=atexit_sleep_ms=10 $(GO) test -vet=off -timeout 30m -race -tags invariants $(TESTFLAGS) $(PACKAGES)

fuzz: ## each native fuzz target for FUZZTIME, 20s by default, whatever fails; prints each failing input
	scripts/fuzz

programs: ## PROGRAMS random programs on a store and its model, 100000 by default, on all processors; FROM=run resumes
	scripts/programs

crash: ## crash, fault and kill campaigns; SHORT=1: the short ones; SEEDBUG=name: with that bug, which must be caught; SEEDBUG=all
	scripts/crash

figures: ## measures what the store should reach, beside aim and floor, in half an hour; STEPS='w1-1e8 big': the long ones
	scripts/figures $(STEPS)

bench: ## the figures of docs/PERFORMANCE.md; PAIRS=1e7: the large ones; ONLY=pattern: some. Nothing else should run
	scripts/bench

bench-peers: ## CIDStore beside Pebble, bbolt, Badger, pogreb and SQLite; PEERFLAGS='-n 10000000 -runs 3', -help lists them
	@cd bench && CGO_ENABLED=0 $(GO) run . $(PEERFLAGS)

big: ## a store of PAIRS pairs, 1e8 by default, killed with a full log, opened, checked, read and backed up; DIR=/some/disk
	scripts/big

beside: ## small stores, and make demo, beside those of COMMIT, by default the last with format 1
	scripts/beside

test-peers: ## vets and tests the module of bench-peers, which is not in test
	cd bench && CGO_ENABLED=0 $(GO) vet ./... && CGO_ENABLED=0 $(GO) test $(TESTFLAGS) ./...

cross: ## builds for every supported system without cgo; all packages for one machine of each kind
	scripts/cross

qemu: ## tests of the file format on big-endian and 32-bit machines, emulated
	scripts/qemu

interop: ## files against cidstore.py, h5py, pandas, the HDF5 tools and h5wasm; all of these must be there
	scripts/interop

demo: ## builds the program and shows on WordNet, checking each step, that a kill loses nothing; leaves dist/demo
	scripts/demo

debian: ## imports the 1.7 million pairs of Debian's package index both ways and compares each; leaves dist/debian
	scripts/debian

man: ## the manual pages of the program, in dist/man
	$(GO) test -count=1 -run '^TestManPages$$' ./cmd/cidstore -man $(CURDIR)/dist/man

check: lint test race ## what to run before a commit: lint, test, race, and short crash and fuzz runs
	SHORT=1 scripts/crash
	FUZZTIME=2s scripts/fuzz
